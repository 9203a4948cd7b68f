"""Clinical notes written from a dialogue (aci-bench): sections, wording within them, length, numbers without a source.

Source: Yim et al. 2023, aci-bench, arXiv 2306.02022, which scores four divisions of a note apart; the headers are those
of its notes. An item's `answers` hold the reference note, its `context` the dialogue.
"""

from __future__ import annotations

import re

from residency.errors import ResidencyError
from residency.eval.metrics.item import Item, Statistics, answers, share
from residency.eval.metrics.overlap import rouge_l, rouge_n, tokens
from residency.eval.metrics.spoken import spoken_numbers

SUBJECTIVE, EXAM, RESULTS, PLAN = DIVISIONS = ("subjective", "exam", "results", "plan")
# section -> its division and the headers that mean it, upper case
SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "complaint": (SUBJECTIVE, ("CHIEF COMPLAINT", "CC", "REASON FOR VISIT")),
    "present illness": (
        SUBJECTIVE,
        ("HISTORY OF PRESENT ILLNESS", "HPI", "INTERVAL HISTORY", "HISTORY", "SUBJECTIVE"),
    ),
    "systems": (SUBJECTIVE, ("REVIEW OF SYSTEMS", "ROS")),
    "past history": (
        SUBJECTIVE,
        (
            "PAST HISTORY",
            "MEDICAL HISTORY",
            "PAST MEDICAL HISTORY",
            "PMH",
            "BIRTH HISTORY",
            "GYNECOLOGIC HISTORY",
        ),
    ),
    "surgical history": (SUBJECTIVE, ("SURGICAL HISTORY", "PAST SURGICAL HISTORY", "PSH")),
    "family history": (SUBJECTIVE, ("FAMILY HISTORY", "FH")),
    "social history": (SUBJECTIVE, ("SOCIAL HISTORY", "SH")),
    "medications": (SUBJECTIVE, ("MEDICATIONS", "CURRENT MEDICATIONS", "MEDS")),
    "allergies": (SUBJECTIVE, ("ALLERGIES",)),
    "vitals": (EXAM, ("VITALS", "VITAL SIGNS", "VITALS REVIEWED")),
    "exam": (EXAM, ("PHYSICAL EXAM", "PHYSICAL EXAMINATION", "EXAM", "EXAMINATION", "PE", "OBJECTIVE")),
    "results": (RESULTS, ("RESULTS", "FINDINGS", "LABS", "IMAGING", "PROCEDURE", "PROCEDURES")),
    "assessment and plan": (
        PLAN,
        (
            *("ASSESSMENT AND PLAN", "ASSESSMENT & PLAN", "ASSESSMENT/PLAN", "A&P", "A/P", "AP"),
            *("ASSESSMENT", "PLAN", "PLAN OF CARE", "IMPRESSION"),
        ),
    ),
    "instructions": (PLAN, ("INSTRUCTIONS", "PATIENT INSTRUCTIONS")),
}
SECTION_OF = {header: section for section, (_, headers) in SECTIONS.items() for header in headers}
NUMBER = re.compile(r"(?<![A-Za-z\d.,])(?<![A-Za-z]-)(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?")
ENUMERATED = re.compile(r"^\s*\d{1,2}[.)]\s+(?=\D)", re.MULTILINE)


def sections(note: str) -> dict[str, str]:
    """Text of each section, by the names of `SECTIONS`; what stands before the first header has the name "".

    A header is a line of its own (any case, colon or Markdown around it), or capitals or bold with a colon before text.
    Sections of one name, such as an assessment and a plan, are joined. "Impression" is a header in capitals only: in
    small letters it belongs to a result.
    """
    found: dict[str, list[str]] = {}
    current = ""
    for line in note.splitlines():
        section, rest = _header(line)
        current = section or current
        found.setdefault(current, []).append(rest if section else line)
    return {
        section: "\n".join(lines).strip()
        for section, lines in found.items()
        if section or "".join(lines).strip()
    }


def _header(line: str) -> tuple[str | None, str]:
    bold = line.lstrip().startswith(("**", "#"))
    plain = line.replace("*", "").strip().lstrip("#").strip()
    whole = plain.rstrip(":").strip()
    if whole.upper() in SECTION_OF and (whole.isupper() or whole.upper() != "IMPRESSION"):
        return SECTION_OF[whole.upper()], ""
    name, colon, rest = plain.partition(":")
    if colon and (name.isupper() or bold) and name.strip().upper() in SECTION_OF:
        return SECTION_OF[name.strip().upper()], rest.strip()
    return None, ""


def divisions(note: str) -> dict[str, str]:
    """Text of each of the four divisions that the note has; what precedes the first header is subjective."""
    found: dict[str, list[str]] = {}
    for section, text in sections(note).items():
        found.setdefault(SECTIONS[section][0] if section else SUBJECTIVE, []).append(text)
    return {division: "\n".join(texts) for division, texts in found.items()}


def structure(reply: str, item: Item) -> Statistics:
    """`coverage`: share of the reference's sections that the reply has, in [0, 1]; `length`: words of the reply / words
    of the reference (1 is like; not bounded)."""
    reference = answers(item)[0]
    wanted, said = set(sections(reference)) - {""}, set(sections(reply))
    if not wanted:
        raise ResidencyError(
            f"item {item.get('id')!r}: its reference note has no header that is known",
            cure="Take another metric",
        )
    length = share(len(tokens(reply)), len(tokens(reference)))
    return {"coverage": len(wanted & said) / len(wanted), "length": length}


def by_division(reply: str, item: Item) -> Statistics:
    """ROUGE-1 and ROUGE-L (F1) of each division with the reference's, 0 where the reply lacks it.

    `rouge1` and `rougeL` are means over the divisions that the reference has; `rouge1:exam` and so on are one
    division's, to be divided by `has:exam`, the count of references that have it.
    """
    wanted, said = divisions(answers(item)[0]), divisions(reply)
    pairs = {name: (tokens(said.get(name, "")), tokens(text)) for name, text in wanted.items()}
    one = {name: rouge_n(ours, theirs, 1) for name, (ours, theirs) in pairs.items()}
    longest = {name: rouge_l(ours, theirs) for name, (ours, theirs) in pairs.items()}
    found: Statistics = {
        "rouge1": share(sum(one.values()), len(one)),
        "rougeL": share(sum(longest.values()), len(longest)),
    }
    for name in DIVISIONS:
        found[f"has:{name}"] = float(name in wanted)
        found[f"rouge1:{name}"] = one.get(name, 0.0)
    return found


def invented_numbers(reply: str, item: Item) -> Statistics:
    """`numbers`: different numbers in the reply; `invented`: those in neither dialogue nor reference. Doses, vitals and
    dates without a source, a cheap sign of hallucination; a task's value is their ratio, lower better.

    A dialogue's number words count in every way that they may be read ("one forty two" is 142, 1, 42 and 40), so that
    few sound numbers are blamed. Digits within names (A1c, L5, COVID-19) and item numbers of lists are no numbers.
    """
    if not isinstance(item.get("context"), str):
        raise ResidencyError(
            f"item {item.get('id')!r} lacks its context, the dialogue", cure="Add it to the row"
        )
    known = numbers_in(item["context"]) | spoken_numbers(item["context"])
    for reference in answers(item):
        known |= numbers_in(reference) | spoken_numbers(reference)
    said = numbers_in(reply)
    return {"numbers": float(len(said)), "invented": float(len(said - known))}


def numbers_in(text: str) -> set[str]:
    """Numbers written in digits, in one form: `007` and `7.0` are 7, `120/80` is 120 and 80."""
    return {plain(found.replace(",", "")) for found in NUMBER.findall(ENUMERATED.sub("", text))}


def plain(number: str) -> str:
    return f"{float(number):.12g}"
