"""Numbers that a text says in English words, in every way that the words may be read."""

from __future__ import annotations

import re

UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen"]
TEENS += ["fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
VALUES = {word: value for value, word in enumerate(UNITS + TEENS)}
VALUES |= {word: value for value, word in zip(range(20, 100, 10), TENS, strict=True)}
VALUES |= {"oh": 0, "once": 1, "twice": 2, "couple": 2, "dozen": 12, "a": 1, "an": 1}
SCALES = {"hundred": 100, "thousand": 1000}
WORD = re.compile(r"[a-z]+|[^\sa-z-]")
LONGEST = 6  # words of one number


def spoken_numbers(text: str) -> set[str]:
    """Numbers in words: "fifty eight" is 58, 50 and 8; "one forty two" 142 among others; "two point five" 2.5."""
    found: set[str] = set()
    run: list[str] = []
    for word in [*WORD.findall(text.lower()), "."]:
        if word in VALUES or word in SCALES or word in ("point", "half") or (word == "and" and run):
            run.append(word)
            continue
        for start in range(len(run)):
            for end in range(start + 1, min(start + LONGEST, len(run)) + 1):
                found |= readings(run[start:end])
        run = []
    return found


def readings(words: list[str]) -> set[str]:
    """A run of number words read as a sum ("two hundred and ten"), as digits side by side ("one forty two", "twenty
    nineteen"), or as a decimal ("two point five", "two and a half"). Words that make none of these give nothing."""
    if words[-1] == "half":
        before = [word for word in words[:-1] if word not in ("a", "and")]
        return {f"{float(number) + 0.5:.12g}" for number in (readings(before) if before else {"0"})}
    if "point" in words:
        place = words.index("point")
        before, after = words[:place], words[place + 1 :]
        digits = "".join(str(VALUES[word]) for word in after if word in VALUES)
        whole = readings(before) if before else {"0"}
        return {f"{float(f'{number}.{digits}'):.12g}" for number in whole if digits and "." not in number}
    counted = [word for word in words if word != "and"]
    if not counted or "half" in counted or counted[0] in SCALES or set(counted) <= {"a", "an"}:
        return set()
    groups = _groups(counted)
    found = {str(groups[0])} if len(groups) == 1 else set()
    if len(groups) > 1 and not set(words) & {"and", *SCALES}:
        found.add(f"{float(''.join(map(str, groups))):.12g}")
    return found


def _groups(words: list[str]) -> list[int]:
    """Values that grammar joins: [one, forty, two] is 1 and 42, [two, hundred, ten] is 210."""
    groups: list[int] = []
    for word in words:
        value = VALUES.get(word)
        if value is None:
            low = groups[-1] % 100 if word == "hundred" else 0  # "two thousand five hundred": only the five
            groups[-1] += (low or groups[-1]) * (SCALES[word] - 1)
        elif groups and _fits_under(value, groups[-1]):
            groups[-1] += value
        else:
            groups.append(value)
    return groups


def _fits_under(value: int, above: int) -> bool:
    """Whether a value continues a number: a unit after a tens, anything below 100 after hundreds."""
    if not value or not above:
        return False
    if above % 100 == 0:
        return value < 100
    return value < 10 and above % 10 == 0 and above % 100 >= 20
