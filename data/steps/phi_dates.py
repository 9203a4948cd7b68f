"""Surface forms of dates in English, French, Spanish, Italian and Chinese notes.

Under Safe Harbor (45 CFR 164.514(b)(2)(i)(C)) every element of a date but the year identifies, so `March 2019` is one
and `2019` is not. Hard are the forms that other things share: `5/10` is a pain score, `Sept-5` a gene."""

from __future__ import annotations

import re

from residency.data.steps.phi_shape import MONTH as MONTH_SIGN
from residency.data.steps.phi_shape import SLASH, Shape, shape

ENGLISH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?"
    r"(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?|JAN(?:UARY)?|FEB(?:RUARY)?|MAR(?:CH)?|APR(?:IL)?|MAY|JUNE?"
    r"|JULY?|AUG(?:UST)?"
    r"|SEPT?(?:EMBER)?|OCT(?:OBER)?|NOV(?:EMBER)?|DEC(?:EMBER)?)"
)
WHOLE = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November"
    r"|December)"
)  # no abbreviations
ROMANCE = (
    r"(?i:janvier|janv\.|f[ée]vrier|f[ée]vr\.|mars|avril|avr\.|mai|juin|juillet|juil\.|ao[uû]t"
    r"|septembre|octobre|novembre"
    r"|d[ée]cembre|d[ée]c\.|enero|febrero|marzo|abril|mayo|junio|julio|agosto|sep?tiembre"
    r"|octubre|noviembre|diciembre"
    r"|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre)"
)
SHORT = (  # Romance abbreviations that are words elsewhere: only between a day and a year
    r"(?i:ene|feb|mar|abr|may|jun|jul|ago|sep|set|oct|nov|dic|gen|apr|mag|giu|lug|ott|janv|f"
    r"[ée]vr|avr|juil|sept|d[ée]c)\.?"
)
ROMAN = r"(?:I{1,3}|IV|VI{0,3}|IX|XI{0,2})"
YEAR, TWO = r"(?:19|20)\d\d", r"['’]?\d\d"
DAY, MONTH = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
START, END = r"(?<![A-Za-z0-9])(?<!\d[./-])", r"(?![A-Za-z0-9]|[./-]\d)"
CLOCK = (
    r"(?:[01]?\d|2[0-4])[:h][0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?(?:\s?[AaPp]\.?"
    r"[Mm]\b\.?|\s?h(?:rs?)?\b)?"
)
TIME = (
    rf"(?:(?:T|,?\s{{0,2}}(?:at|@|à|a las|alle ore|alle|ore)?\s{{0,2}})(?:{CLOCK}|[0-2]\d"
    rf"[0-5]\d\s?h(?:ours|rs?)\b))?"
)
UNITS = (
    r"(?!\s?(?:%|[mμµk]?g\b|mc?g\b|m?[lL]\b|mmol|mm\b|cm\b|mEq|units?\b|IU\b|tab|cap|of\b|cup"
    r"|teaspoon|tsp|pain|strength"
    r"|scale|years?\b|patients?\b|people\b|percent))"
)
CHINESE_NUMBER = r"[〇零一二三四五六七八九十]{1,3}"
CHINESE_DAY, CHINESE_MONTH = (
    rf"(?:\d{{1,2}}|{CHINESE_NUMBER})\s?[日号]",
    rf"(?:\d{{1,2}}|{CHINESE_NUMBER})\s?月",
)
CHINESE_TIME = (
    r"(?:\s?(?:凌晨|早上|上午|中午|下午|傍晚|晚上|晚)?\s?\d{1,2}(?:[:：]\d\d|[点时](?:\d{1,2}分)?))?"
)
CUE = (
    r"(?i:\b(?:on|since|until|till|by|dated?|seen|visit|visits|admitted|admission|discharged?"
    r"|adm|d/c|dos|dob|doa|dod|through"
    r"|thru|starting|started|beginning|ending|scheduled|due|appointment|follow-?up|f/u|recheck"
    r"|from|to|between|of|le|du"
    r"|au|el|il|del|dal|al)\b(?: (?:on|for|date))?\.?\s?:?)"
)
SCORE = re.compile(
    r"\b(?:pain|strength|score|scale|murmur|grade|power|pulses?|reflex\w*|apgar|motor|eva"
    r"|dolor\w*|dolore|douleur)\b",
    re.I,
)
# The value is a share or a score: five, six and ten are what strength, murmurs and pain are given out of.
OUT_OF = {5, 6, 10}
AMOUNT = re.compile(r"(?i)from|to\b|between|of\b")  # may come before a fraction: `reduced to 1/3`


def _plausible(found: re.Match[str]) -> bool:
    """Day and month in one order or the other."""
    first, second = int(found["a"]), int(found["b"])
    return 1 <= min(first, second) <= 12 and 1 <= max(first, second) <= 31


def _month_and_day(found: re.Match[str]) -> bool:
    """Not a score: `on 5/10 pain`, `strength was 4/5`, `from 8/10 to 2/10`."""
    if not _plausible(found) or (AMOUNT.match(found[0]) and int(found["b"]) <= max(OUT_OF)):
        return False
    around = found.string[max(0, found.start() - 40) : found.end() + 15]
    return int(found["b"]) not in OUT_OF or not SCORE.search(around)


def _rising(found: re.Match[str]) -> bool:
    """A range of days, not of scores: the month stays and the day rises, or the next month follows."""
    month, day, last_month, last_day = (int(found[name]) for name in "abcd")
    in_year = 1 <= month <= 12 and 1 <= last_month <= 12 and 1 <= day <= 31 and 1 <= last_day <= 31
    return in_year and (
        (month == last_month and day < last_day) or (last_month == month + 1 and day != last_day)
    )


def _not_a_database_number(found: re.Match[str]) -> bool:
    return not re.search(
        r"(?:PMID|PMC|DOI|ID|No\.?|#)\W{0,2}$", found.string[max(0, found.start() - 8) : found.start()], re.I
    )


def shapes() -> list[Shape]:
    """All of them; every one holds a digit, but for months in words."""
    ordinal = r"(?:st|nd|rd|th|ST|ND|RD|TH)?"
    year = rf"(?:,?\s(?:of\s)?{YEAR}|,?\s['’]\d\d)"
    day_range = rf"{DAY}{ordinal}(?:\s?[-–]\s?{DAY}{ordinal})?"
    return [
        # 2019-03-14, 2019/3/14, 2019.03.14
        shape("date", rf"{START}{YEAR}([-/.]){MONTH}\1{DAY}(?:{TIME}){END}"),
        # 03/14/2019, 14.03.19, 3-14-2019; two digits of the year after dots only where day and month have two too
        shape("date", rf"{START}(?P<a>\d{{1,2}})([-/.])(?P<b>\d{{1,2}})\2{YEAR}{TIME}{END}", _plausible),
        shape("date", rf"{START}(?P<a>\d{{1,2}})([-/])(?P<b>\d{{1,2}})\2{TWO}{TIME}{END}{UNITS}", _plausible),
        shape("date", rf"{START}(?P<a>\d\d)\.(?P<b>\d\d)\.{TWO}{TIME}{END}{UNITS}", _plausible),
        # 3/2019, 03-2019
        shape("date", rf"(?<![A-Za-z0-9./-])(?:{MONTH}/|(?:0[1-9]|1[0-2])-){YEAR}{END}"),
        # on 3/14, seen 3/14 at 14:30
        shape(
            "date",
            rf"{CUE}\s?(?P<v>(?P<a>\d{{1,2}})/(?P<b>\d{{1,2}}){TIME}){END}{UNITS}",
            _month_and_day,
            SLASH,
        ),
        # 3/14: what was noted on that day
        shape("date", r"(?m:^)[ \t]*(?P<v>(?P<a>\d{1,2})/(?P<b>\d{1,2}))[ \t]*:\s", _month_and_day, SLASH),
        # 3/14-3/18
        shape(
            "date",
            rf"{START}(?P<a>\d{{1,2}})/(?P<b>\d{{1,2}})\s?(?:-|–|to|through|thru)\s?(?P<c>\d{{1,2}})/"
            rf"(?P<d>\d{{1,2}}){END}{UNITS}",
            _rising,
            SLASH,
        ),
        # 20190314
        shape(
            "date",
            rf"(?<![\w./-]){YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\w-])",
            _not_a_database_number,
        ),
        # DOB 03 14 62, born 031462
        shape(
            "date",
            r"(?i:\bD\.?O\.?B\.?|\bbirth\s?date|\bdate of birth|\bborn)\W{0,3}(?P<v>\d{1,2}"
            r"[ ./-]?\d{1,2}[ ./-]?\d{2,4})\b",
        ),
        # 14 March 2019, 14th of March, 14-Mar-2019, 14MAR2019, 14-Mar
        shape(
            "date",
            rf"{START}{day_range}[\s./-]{{0,2}}(?:of\s|day of\s)?{ENGLISH}(?:\.?[\s,/.-]{{0,2}}{YEAR}"
            rf"|\.?[\s/-]['’]?\d\d(?!\d|:\d)|(?=[^A-Za-z0-9]|$)){TIME}(?![A-Za-z0-9])",
        ),
        # March 14, 2019; Mar. 14th; March 14-18, 2019; March the 14th
        shape(
            "date", rf"\b{ENGLISH}\.?\s(?:the\s)?{day_range}(?:{year})?{TIME}(?![A-Za-z0-9]|[.,/-]\d){UNITS}"
        ),
        # March 2019, Mar-2019, March of 2019, Mar '19
        shape("date", rf"\b{ENGLISH}\.?(?:[\s,/-]{{1,2}}(?:of\s)?{YEAR}|\s['’]\d\d)(?![A-Za-z0-9])"),
        # 2019 March 14, 2019-Mar-14
        shape("date", rf"{START}{YEAR}[\s,-]{{1,2}}{ENGLISH}\.?(?:[\s-]{DAY}{ordinal})?(?![A-Za-z0-9])"),
        # 14.III.2019
        shape("date", rf"{START}{DAY}[./\s-]\s?{ROMAN}[./\s-]\s?{YEAR}(?![A-Za-z0-9])"),
        # 14 mars 2019, 1er avril, 14 de marzo de 2019, 1° aprile 2019
        shape(
            "date",
            rf"{START}(?:1er|1[°ºª]|{DAY})[\s-](?:de\s|di\s)?{ROMANCE}(?:,?[\s-](?:de\s|del\s|dell"
            rf"['’])?{YEAR})?{TIME}(?![A-Za-z0-9À-ÿ])",
        ),
        shape("date", rf"\b{ROMANCE}\s(?:de\s|del\s|dell['’])?{YEAR}(?![A-Za-z0-9])"),
        shape("date", rf"{START}{DAY}[\s./-]{SHORT}[\s./-](?:{YEAR}|\d\d){TIME}(?![A-Za-z0-9])"),
        # 2019年3月14日 14:30, 3月14号, 二〇一九年三月, 3月初
        shape(
            "date",
            rf"(?:(?:\d{{4}}|[〇零一二三四五六七八九]{{4}})\s?年\s?)?{CHINESE_MONTH}\s?{CHINESE_DAY}{CHINESE_TIME}",
            sign=MONTH_SIGN,
        ),
        shape("date", rf"(?:\d{{4}}|[〇零一二三四五六七八九]{{4}})\s?年\s?{CHINESE_MONTH}", sign=MONTH_SIGN),
        shape("date", rf"{CHINESE_MONTH}(?:份|初|底|末|中旬|上旬|下旬)", sign=MONTH_SIGN),
        # since last March: a month alone, after a word that makes it one
        shape(
            "date",
            rf"\b(?:in|since|until|till|last|next|this|early|late|mid|during)[ -](?:early |late "
            rf"|mid-?)?(?P<v>{WHOLE})\b(?!\s\d)",
            sign=None,
        ),
    ]
