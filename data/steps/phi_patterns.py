"""Surface forms of numbers and of what computers read: telephones, numbers after a label, ages, mail and pages.

What Presidio recognises with a checksum or a parser (cards, IBAN, IP and MAC addresses, national numbers) is its own
part: `residency.data.steps.phi_finder`. Labels are in English, French, Spanish, Italian and Chinese."""

from __future__ import annotations

import re

from residency.data.steps.phi_shape import AT, HOST, NINETY, OVER_89, Check, Shape, digits, shape
from residency.data.steps.phi_shape import NUMBER as NUMBER_SIGN

NUMBER = (
    r"(?:n[°ºo]\.?|n\.º?|nr\.?|num(?:ber|\.)?|num[ée]ro|n[úu]mero|no\.|#|id(?:entifier"
    r"|entification)?\b|code\b)"
)
GLUE = rf"(?:\s?{NUMBER})*[\s:：#.=-]{{0,4}}(?:is\s|es\s|est\s|è\s|为)?"
VALUE = r"(?P<v>[A-Za-z0-9*](?:[A-Za-z0-9*]|[./-](?=[A-Za-z0-9*])){2,24})(?![A-Za-z0-9])"
SPACED = r"(?P<v>[A-Z]{0,4}\d(?:[A-Za-z0-9]|[ -](?=\d)){3,24})(?![A-Za-z0-9])"

RECORD_ALONE = (
    r"M\.?R\.?N\.?|medical records?|med\.? rec\.?|record|chart|case|accession|specimen"
    r"|encounter|visit|hospital|hosp\.?|unit"
    r"|patient|pt\.?|device|serial|lab(?:oratory)?|file|study|order|requisition|admission"
    r"|registration|pathology|biopsy"
    r"|implant|barcode|CSN|FIN|EMPI|URN?|MR|(?:num[ée]ro |n[°ºo] |n° )?(?:de )?dossier|IPP|NIP"
    r"|s[ée]jour"
    r"|historia(?: cl[íi]nica)?|NHC|expediente|episodio|cartella(?: clinica)?|nosologico"
    r"|pratica|ricovero"
)
RECORD_SURE = r"M\.?R\.?N\.?|CSN|EMPI|IPP|NHC|nosologico|historia cl[íi]nica|cartella clinica|dossier"
RECORD_CHINESE = (
    r"(?:病历|病案|住院|门诊|就诊|登记|检查|标本|条码|病理|影像"
    r"|设备|序列|患者|就诊卡|档案|病床)(?:编)?号码?"
)
ACCOUNT_ALONE = (
    r"account|acct\.?|a/c|policy|member(?:ship)?|insurance|insured|group|subscriber"
    r"|beneficiary|medicaid|medicare|MBI|HICN?"
    r"|claim|licen[sc]e|certificate|DEA|NPI|VIN|plate|passport|card|routing|invoice|plan|assur"
    r"[ée]e?|adh[ée]rent|police"
    r"|contrat|mutuelle|carte vitale|compte|immatriculation|p[óo]liza|cuenta|tarjeta"
    r"(?: sanitaria)?|afiliado|afiliaci[óo]n"
    r"|matr[íi]cula|pasaporte|polizza|conto|tessera(?: sanitaria)?|targa|passaporto"
)
ACCOUNT_SURE = (
    r"acct\.?|account|medicaid|medicare|NPI|VIN|DEA|HICN?|MBI|p[óo]liza|polizza"
    r"|tessera sanitaria|tarjeta sanitaria"
)
ACCOUNT_CHINESE = r"(?:医保|社保|医疗保险|社会保障|银行|保单|车牌|护照|信用)(?:卡)?号码?|账号|卡号"
SSN_LABEL = (
    r"SSNs?|SS\s?#|SS no\.?|social security|soc\.? sec\.?|s[ée]curit[ée] sociale|NIR\b"
    r"|N\.?H\.?S\.?(?= (?:no|num|#))"
    r"|national insurance|seguridad social|D\.?N\.?I\.?|N\.?I\.?[EF]\.?|codice fiscale"
    r"|cod\.? fisc\.?|C\.F\.|身份证(?:号码?)?"
)
TELEPHONE = (
    r"(?:tel(?:ephone|[ée]fono)?|t[ée]l(?:[ée]phone)?|phone|ph|cell(?:ulare|ular)?|mobile|mob"
    r"|m[óo]vil|portable|cel|fax"
    r"|call(?:ed)?(?: back)?|contact|reach(?:ed)?|number)"
)


def _at_least(least: int) -> Check:
    return lambda found: digits(found["v"]) >= least


def _telephone(found: re.Match[str]) -> bool:
    """Seven digits or more, and no date or count."""
    return 7 <= digits(found["v"]) <= 15


def _possible(found: re.Match[str]) -> bool:
    """A number of some country (libphonenumber, https://github.com/google/libphonenumber)."""
    import phonenumbers

    number = re.sub(r"^00|^011", "+", re.sub(r"[^\d+]", "", found["v"].replace("(0)", "")))
    try:
        return bool(phonenumbers.is_possible_number(phonenumbers.parse(number)))
    except phonenumbers.NumberParseException:
        return False


def _french_key(found: re.Match[str]) -> bool:
    """The last two digits of a French number are its key (https://xml.insee.fr/schema/nir.html)."""
    number = found[0].replace("A", "0").replace("B", "0")
    less = 1_000_000 * found[0].count("A") + 2_000_000 * found[0].count("B")  # Corsica
    return 97 - (int(number[:13]) - less) % 97 == int(number[13:])


def _valid_in(*regions: str) -> Check:
    def check(found: re.Match[str]) -> bool:
        import phonenumbers

        return any(phonenumbers.is_valid_number(phonenumbers.parse(found["v"], region)) for region in regions)

    return check


def telephones() -> list[Shape]:
    """Written North American, international, French, British, Italian, Spanish and Chinese; pagers and extensions."""
    extension = r"(?:,?\s?(?:ext(?:n|ension)?|x|poste|int(?:erno)?|分机)\.?\s?:?\s?\d{1,6})?"
    start, end = r"(?<![A-Za-z0-9.+/-])", r"(?![A-Za-z0-9]|[.-]\d)"
    return [
        shape(
            "phone",
            rf"{start}(?:(?:\+|00)?1[ .-]?)?(?:\(\d{{3}}\)[ -]?|\d{{3}}[ .\-/–])\d{{3}}"
            rf"[ .\-–]\d{{4}}{extension}{end}",
        ),
        shape("phone", rf"{start}(?:\+?1[ .-]?)?\(\d{{3}}\)\s?\d{{7}}{extension}{end}"),
        shape(
            "phone",
            rf"(?<![A-Za-z0-9+])(?P<v>(?:\+|00(?=[1-9])|011 )\d{{1,3}}(?:"
            rf"[ .\-/]?\(?\d{{1,8}}\)?){{1,7}}){extension}{end}",
            _possible,
        ),
        shape("phone", rf"{start}0[1-9](?:([ .-])\d\d)(?:\1\d\d){{3}}{end}"),
        shape(
            "phone",
            rf"{start}(?P<v>0\d{{1,4}}[ /-]\d{{3,4}}[ -]?\d{{3,4}}){extension}{end}",
            _valid_in("GB", "IT"),
        ),
        shape("phone", rf"{start}(?P<v>\(0\d{{2,4}}\)\s?\d{{3,4}} ?\d{{3,4}}){end}", _valid_in("GB")),
        shape("phone", rf"{start}(?P<v>0[1-9]\d{{8,9}}){end}", _valid_in("FR", "GB")),
        shape("phone", rf"{start}(?P<v>3[1-9]\d[ -]\d{{3}}[ -]?\d{{4}}){end}", _valid_in("IT")),
        shape("phone", rf"{start}(?P<v>9\d \d{{3}} \d\d \d\d){end}", _valid_in("ES")),
        shape("phone", rf"{start}1[3-9]\d([ -]?)\d{{4}}\1\d{{4}}{end}"),
        shape("phone", rf"{start}(?P<v>0\d{{2,3}}-\d{{4}}[ -]?\d{{3,4}}){extension}{end}", _valid_in("CN")),
        shape(
            "phone",
            rf"(?i:\b{TELEPHONE})\.?{GLUE}(?:at\s|au\s|al\s)?[\s:]{{0,2}}(?P<v>\(?\+?\d"
            rf"[\d ().\-/]{{5,18}}\d{extension})(?![A-Za-z0-9])",
            _telephone,
            NUMBER_SIGN,
        ),
        shape(
            "phone",
            rf"(?:电话|手机|传真|座机|热线)(?:号码?)?\s?(?:为|是)?\s?[:：]?\s?(?P<v>\(?\+?\d"
            rf"[\d ()\-]{{5,18}}\d{extension})",
            _telephone,
            NUMBER_SIGN,
        ),
        shape(
            "phone",
            rf"(?i:\b(?:pager|beeper|bleep|ext(?:ension|\.)?)){GLUE}\s?(?P<v>\d[\d-]{{2,9}})(?!"
            rf"[A-Za-z0-9])",
        ),
    ]


def labelled_numbers() -> list[Shape]:
    """Records, accounts, insurance, licences, devices and social security: digits after what says so."""
    return [
        shape(
            "record",
            rf"(?i:(?<![A-Za-z0-9])(?:{RECORD_ALONE})\s?(?:serial\s)?{NUMBER}){GLUE}{VALUE}",
            _at_least(4),
            NUMBER_SIGN,
        ),
        shape("record", rf"(?i:(?<![A-Za-z0-9])(?:{RECORD_SURE})){GLUE}{VALUE}", _at_least(4), NUMBER_SIGN),
        shape(
            "record",
            rf"(?i:n[°ºo.]{{1,2}}|n[úu]mero|num[ée]ro)\s?(?i:de\s)?(?i:{RECORD_SURE}"
            rf"|historia){GLUE}{VALUE}",
            _at_least(4),
            NUMBER_SIGN,
        ),
        shape("record", rf"(?:{RECORD_CHINESE})\s?(?:为|是)?\s?[:：]?\s?{VALUE}", _at_least(4), NUMBER_SIGN),
        shape(
            "account",
            rf"(?i:(?<![A-Za-z0-9])(?:{ACCOUNT_ALONE})\s?{NUMBER}){GLUE}(?:{SPACED})",
            _at_least(4),
            NUMBER_SIGN,
        ),
        shape(
            "account",
            rf"(?i:(?<![A-Za-z0-9])(?:{ACCOUNT_ALONE})\s?{NUMBER}){GLUE}{VALUE}",
            _at_least(4),
            NUMBER_SIGN,
        ),
        shape(
            "account",
            rf"(?i:(?<![A-Za-z0-9])(?:{ACCOUNT_SURE}))(?![A-Za-z0-9]){GLUE}{VALUE}",
            _at_least(5),
            NUMBER_SIGN,
        ),
        shape(
            "account",
            rf"(?i:n[°ºo.]{{1,2}}|n[úu]mero|num[ée]ro)\s?(?i:de\s|d['’]\s?)?"
            rf"(?i:{ACCOUNT_ALONE}){GLUE}{VALUE}",
            _at_least(4),
            NUMBER_SIGN,
        ),
        shape(
            "account",
            rf"(?:{ACCOUNT_CHINESE})\s?(?:为|是)?\s?[:：]?\s?(?P<v>[A-Z0-9\u4e00-\u9fff]?[A-Z0-9]"
            rf"[A-Z0-9 -]{{3,24}}[A-Z0-9])",
            _at_least(4),
            NUMBER_SIGN,
        ),
        shape(
            "ssn",
            r"(?<![A-Za-z0-9-])(?!000|666)(?:\d{3}|[xX*]{3})-(?:\d\d|[xX*]{2})-\d{4}(?![A-Za-z0-9]"
            r"|-\d)",
            sign=NUMBER_SIGN,
        ),
        shape(
            "ssn",
            rf"(?i:(?<![A-Za-z0-9])(?:{SSN_LABEL})){GLUE}(?i:ending in |ends in |last (?:4|four)"
            rf"(?: digits)?(?: of)?)?[\s:：]{{0,2}}(?P<v>[A-Za-z0-9*](?:[0-9xX*AB]|[ .-](?="
            rf"[0-9xX*A-Z])){{2,22}}[A-Za-z0-9]?)(?![A-Za-z0-9])",
            _at_least(4),
            NUMBER_SIGN,
        ),
        shape(
            "ssn",
            r"(?<![A-Za-z0-9])[12]\d{5}[\dAB]\d{8}(?![A-Za-z0-9])",
            _french_key,
            NUMBER_SIGN,
        ),
        shape(
            "account",
            rf"(?i:\bcard|\bcarte|\btarjeta|\bcarta){GLUE}(?P<v>\d(?:[ -]?\d){{11,18}})(?!\d)",
            sign=NUMBER_SIGN,
        ),
        shape(
            "ssn",
            r"(?<![A-Za-z0-9])[12] \d\d (?:0[1-9]|1[0-2]|[2-9]\d) (?:\d\d|2[AB]) \d{3} \d{3}(?: \d\d)?"
            r"(?!\d)",
            sign=NUMBER_SIGN,
        ),
        shape(
            "ssn",
            r"(?<![A-Za-z0-9])[1-9]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}"
            r"[\dXx](?![A-Za-z0-9])",
            sign=NUMBER_SIGN,
        ),
        shape("record", r"(?<![A-Za-z0-9])[A-Z]{1,2}\d\d-\d{4,6}(?![A-Za-z0-9])", sign=NUMBER_SIGN),
    ]


def ages() -> list[Shape]:
    """Ages over 89 (45 CFR 164.514(b)(2)(i)(C)), in digits and in words."""
    over = r"(?P<v>9\d|1[0-2]\d)"
    return [
        shape(
            "age",
            rf"(?<![\d.,/]){over}(?:[\s-]?(?:years?|yrs?)[\s-]?old|\s?-?y[./]?\s?o\b|\s?y/o|\s?(?:ans"
            rf"|años|anni)(?![A-Za-zÀ-ÿ])|\s?周?岁)",
            sign=OVER_89,
        ),
        shape(
            "age",
            rf"(?i:\baged?|\bâg[ée]e?s?(?: de)?|\bâge|\bedad|\betà|年龄)\s?(?:of\s|is\s|de\s|di\s)?"
            rf"[:：]?\s?{over}(?![\d.%])",
            sign=OVER_89,
        ),
        shape(
            "age",
            r"(?i:(?P<v>\bninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?)[- ]years?"
            r"[- ]old)",
            sign=NINETY,
        ),
    ]


TOP_LEVEL = (
    r"(?:com|org|net|edu|gov|mil|io|info|biz|app|dev|health|eu|uk|fr|cn|ca|au|ch|nl|jp|de|es"
    r"|it)"
)
PATH = r"[^\s<>\"'（）()，。；、\u4e00-\u9fff]*[^\s<>\"'（）()，。；、\u4e00-\u9fff.,;:!?\]}]"


def web() -> list[Shape]:
    """E-mail addresses and pages; a country's ending that is a word too only after two dots or before a path."""
    return [
        shape(
            "email",
            r"[A-Za-z0-9À-ÿ_%+'-](?:[A-Za-z0-9À-ÿ._%+'-]{0,62}[A-Za-z0-9À-ÿ_%+-])?@[A-Za-z0-9À-ÿ-]+"
            r"(?:\.[A-Za-z0-9À-ÿ-]+)+",
            sign=AT,
        ),
        shape("url", rf"(?i:\b(?:https?|s?ftps?)://){PATH}", sign=HOST),
        shape("url", rf"(?i:(?<![A-Za-z0-9@])www\d?\.){PATH}", sign=HOST),
        shape(
            "url",
            rf"(?<![A-Za-z0-9@._-])(?:[a-z0-9-]+\.)+(?<=[a-z0-9-][.]){TOP_LEVEL}(?![A-Za-z0-9-])"
            rf"(?::\d+)?(?:/{PATH})?",
            _host,
            sign=HOST,
        ),
    ]


def _host(found: re.Match[str]) -> bool:
    """Not a sentence whose space was lost (`of it.it`)."""
    host = re.split(r"[:/]", found[0])[0]
    return (
        not host.endswith((".it", ".es", ".de", ".au", ".ch", ".dev", ".app", ".health"))
        or host.count(".") > 1
        or "/" in found[0]
    )
