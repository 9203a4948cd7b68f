"""Surface forms of names and of where people live, in English, French, Spanish, Italian and Chinese.

Names only where a title, a label, a kinship or a credential says that they are names."""

from __future__ import annotations

import re

from residency.data.steps.phi_shape import BY, COLON, MONSIEUR, PERSON, Shape, shape
from residency.data.steps.phi_shape import NUMBER as NUMBER_SIGN

CAPITAL = r"[A-ZÀ-Þ][\w.'’-]*"
STREET = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl"
    r"|Square|Sq|Terrace|Ter|Way"
    r"|Parkway|Pkwy|Highway|Hwy|Circle|Cir|Trail|Trl|Route|Rte|Alley|Crescent|Close|Pike"
    r"|Turnpike|Loop|Row|Expressway|Cove|Plaza|Mews|Gardens|Walk|Grove|Crossing|Motorway)"
)
STATE = (
    r"(?:A[LKZR]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]"
    r"|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])"
)
LAST_WORD = r"[A-ZÀ-Þ](?:[\w.'’-]*\w)?"  # no full stop after it
CITY = rf"(?:{CAPITAL}[ ]){{0,2}}{LAST_WORD}"
US_TAIL = (
    rf"(?:{CITY},?\s{{1,2}}{STATE}\b(?:,?\s{{1,2}}\d{{5}}(?:-\d{{4}})?)?|{CITY},\s"
    rf"(?:Massachusetts|California|Texas|New York|Ohio|Florida)\b(?:\s\d{{5}})?)"
)
UK_POST = r"[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2}\b"
DE = r"(?:(?:de|du|des|del|della|dei|la|le|les|los|las|l['’]|d['’]|di|à)\s?)*"
FLAT_BEFORE = r"(?:(?:Flat|Apartment|Unit|Studio)\s\w{1,4},?\s)?"
ROOM = (
    r"(?:[,\s]{1,2}(?:Apt|Apartment|Unit|Suite|Ste|Floor|Fl|Room|Rm|Bldg|#)\.?\s?#?"
    r"[A-Z0-9-]{1,5})?"
)
FLAT = (
    r"(?:,?\s(?:Apt|Apto|Appt|Appartamento|Int|Interno|Piso|Piano|Puerta|Bât|B[âa]timent)\b\.?\s?\w{1,4}\b)?"
)
POSTED = rf"{FLAT}(?:,?\s{{1,2}}(?:[A-Z]-)?\d{{5}},?\s{CITY}(?:\s\([A-Z]{{2}}\))?|,?\s{{1,2}}{CITY},\s\d{{5}}(?!\d))?"


def addresses() -> list[Shape]:
    """Streets with a house number, post boxes, and postcodes where something says that they are one."""
    romance = (
        r"(?:Calle|C/|Cl\.|Avenida|Avda?\.?|Av\.|Paseo|Plaza|Pza\.?|Camino|Carretera|Ctra\.|Ronda"
        r"|Via|Viale|V\.le|Piazza|P\.zza"
        r"|P\.za|Piazzale|Corso|C\.so|Largo|Vicolo|Strada|Lungotevere|Contrada|Pasaje|Callejón|Glorieta|Alameda|Cuesta|Rambla|Vial|Rotonda|Urbanización|Borgo)"
    )
    return [
        shape(
            "address",
            rf"{FLAT_BEFORE}(?<![A-Za-z0-9./-])\d{{1,5}}(?:-?[A-Z]|-\d{{1,4}}|½)?\s(?:[NSEW]{{1,2}}\.?\s)?"
            rf"(?:{CAPITAL}[ ]|\d{{1,3}}(?:st|nd|rd|th)[ ]){{1,4}}{STREET}\b\.?(?:[ ]"
            rf"[NSEW]{{1,2}}\b\.?)?{ROOM}(?:,?\s{{1,2}}(?:{US_TAIL}|{CITY},?\s{UK_POST}))?",
        ),
        # any street, on the line before its town
        shape(
            "address",
            rf"(?<![A-Za-z0-9./-])\d{{1,5}}\s(?:{CAPITAL}[ ]){{0,3}}{LAST_WORD}{ROOM},?\s{{1,2}}"
            rf"{CITY},?\s{{1,2}}(?:{STATE}\s{{1,2}}\d{{5}}(?:-\d{{4}})?(?!\d)|{UK_POST})",
        ),
        shape("address", rf"\b(?i:P\.?\s?O\.?\s?Box|post office box)\s#?\d+(?:,?\s{US_TAIL})?"),
        shape("address", rf"\b{CITY},\s{{1,2}}{STATE}\s{{1,2}}\d{{5}}(?:-\d{{4}})?(?!\d)"),
        shape("address", rf"\b[A-Z][a-z]+,?\s{UK_POST}"),
        shape(
            "address",
            r"(?i:\bzip(?:\s?code)?|\bpost(?:al\s)?code|\bcode postal|\bc[óo]digo postal|\bC\.?P\."
            r"|\bCAP\b|邮编|邮政编码)\W{0,3}(?P<v>\d{5,6}(?:-\d{4})?)(?!\d)",
            sign=NUMBER_SIGN,
        ),
        shape(
            "address",
            rf"(?<![A-Za-z0-9./-])\d{{1,4}}(?:\s?(?:bis|ter|quater))?,?\s(?i:rue|avenue|av\.?|boulevard"
            rf"|bld|bd|place|pl\.|chemin|all[ée]e|impasse|route|quai|cours|square"
            rf"|passage)\s{DE}{CAPITAL}(?:[ ]{DE}{CAPITAL}){{0,3}}{POSTED}",
        ),
        shape(
            "address",
            rf"(?<![A-Za-z])(?:rue|avenue|boulevard|place|chemin|all[ée]e|impasse)\s{DE}{CAPITAL}"
            rf"(?:[ ]{DE}{CAPITAL}){{0,3}},?\s\d{{5}}\s{CITY}",
        ),
        shape(
            "address",
            rf"(?<![A-Za-z]){romance}\s?{DE}{CAPITAL}(?:[ ]{DE}{CAPITAL}){{0,3}},?\s(?:n"
            rf"[.º°]{{0,2}}\s?)?\d{{1,4}}(?:/?[A-Za-z]\b)?(?:,?\s\d{{1,2}}[º°ª](?:\s?"
            rf"[A-Z]\b)?)?{POSTED}",
        ),
        shape(
            "address",
            r"(?:[^\W\d住址于在为：A-Za-z]{2,6}?(?:省|自治区|市|区|县|镇|乡|街道)){0,4}[^\W\d住址于在为：A-Za-z]{1,8}(?:路|街|道"
            r"|巷|弄|胡同|里)(?:\d{1,5}(?:号|弄)|[A-Za-z]座)(?:\d{1,4}(?:号楼|栋|幢|座|单元|室|楼|层|号))*(?:\s\d{6}(?!\d))?",
        ),
        shape(
            "address",
            r"(?i:(?<!IP )(?<!mail )\baddress|\badresse|\bdomicile|\bdirecci[óo]n|\bdomicilio"
            r"|\bindirizzo|\bresidenza)\s?:\s{0,2}(?P<v>(?=[^\n;@]{0,40}\d)[\dA-ZÀ-Þ]"
            r"[\w .,'’#º°/-]{5,80}\w)(?<!\.)",
            _street_like,
            COLON,
        ),
    ]


def _street_like(found: re.Match[str]) -> bool:
    """A label `Address:` may also come before a page or a computer."""
    return not re.search(r"(?i)https?|www|\d\.\d+\.\d", found["v"])


WORD = r"(?:[A-ZÀ-Þ](?:[A-Za-zÀ-ÿ]|['’][A-Za-zÀ-ÿ]{2,}|-[A-ZÀ-Þ])*)"
PARTICLE = r"(?:(?:de|da|di|del|della|van|von|der|den|la|le|bin|al)[ ]){0,2}"
NAME = rf"{WORD}(?:[ ]{PARTICLE}(?:[A-Z]\.|{WORD})){{0,3}}"
STOP = (
    r"(?!(?:The|This|That|No|Not|None|Is|Has|Had|Was|Denies|Reports|States|Presents|See"
    r"|Unknown|Yes|Male|Female|Same|Self"
    r"|Stable|Age|Date|He|She|It|They|We|You|A|An|In|On|At|For|To|Colleague|Sir|Madam|Doctor"
    r"|Medicare|Call|Please|Patient|PATIENT|Pt|Name|Attending|PCP)\b)"
)
CREDENTIAL = (
    r"(?:M\.?D|D\.?O|R\.?N|N\.?P|PA(?:-C)?|Ph\.?D|FACS|LPN|MSW|LCSW|DDS|DPM|PharmD|MBBS|CRNA"
    r"|APRN)\b"
)
LISTED = rf"{WORD},?(?:[ ](?!{CREDENTIAL}){PARTICLE}(?:[A-Z]\.|{WORD}),?){{0,3}}(?<!,)"  # also Family, Given
CREDENTIAL_SIGN = re.compile(rf",\s{CREDENTIAL}")
RELATION = (
    r"(?:daughter|son|wife|husband|mother|father|sister|brother|partner|spouse|niece|nephew"
    r"|aunt|uncle|cousin|friend"
    r"|neighbou?r|caregiver|guardian|grandson|granddaughter|grandmother|grandfather|stepson"
    r"|stepdaughter|roommate)"
)
ROLE = (
    r"(?:patient(?: name)?|pt(?:\.? name)?|(?:full |last |first |family |given )?name"
    r"|attending(?: physician)?|provider"
    r"|physician|surgeon|PCP|resident|consultant|author|referring (?:physician|provider"
    r"|doctor)|cc|re|next of kin"
    r"|emergency contact|guardian|attn|anesthesiologist|radiologist|pathologist|interpreter"
    r"|nom|pr[ée]nom|m[ée]decin"
    r"|nombre|apellidos?|paciente|m[ée]dico|nome|cognome|paziente|medico)"
)
SURNAME = (  # the most frequent
    r"[王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高梁郑谢宋唐许韩冯邓曹彭曾萧田董袁潘蔡蒋余杜叶程魏苏吕丁任沈姚"
    r"卢姜崔钟谭陆汪范金石廖贾夏韦傅方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤]"
)
HAN = r"[\u4e00-\u9fff]"


FRENCH = re.compile(r"\b(?:le|les|est|et|une?|des|du|été|pour|née?|avec|au|chez)\b")


def _in_french(found: re.Match[str]) -> bool:
    """Elsewhere `M.` is a genus or an initial."""
    return FRENCH.search(found.string, max(0, found.start() - 200), found.end() + 200) is not None


def names() -> list[Shape]:
    """Names after a title, a label or a kinship, and before a credential; not those that only a reader would know."""
    return [
        shape(
            "name",
            rf"(?<![A-Za-z])(?<![Ww]e )(?<!to )(?<!not )(?:Dr|Mrs?|Ms|Miss|Mx|Prof|Professor|Doctor|Mme"
            rf"|Mlle|Madame|Monsieur|Docteur|Sra?|Srta|Señora?|Doña|Don|Dra|Sig|Sig\.ra|Signora?|Dott"
            rf"|Dott\.ssa|Dottor|Dottoressa)\.?[ \t\u00a0](?P<v>{STOP}{NAME})",
            sign=None,
        ),
        shape("name", rf"(?<![A-Z]\.\s)(?<![A-Za-z.])M\.[ ](?P<v>{NAME})(?!\.)", _in_french, MONSIEUR),
        shape(
            "name",
            rf"(?im:(?:^|(?<=[.;,(\s]))(?<!brand )(?<!generic )(?<!drug )(?<!test )(?<!product ){ROLE})"
            rf"[ \t]?[:：][ \t]*(?P<v>{STOP}{LISTED})",
            sign=COLON,
        ),
        shape(
            "name",
            rf"(?i:\b(?:signed|dictated|transcribed|referred|reviewed|seen|reported|prepared|authored"
            rf"|performed|verified|accompanied)(?: electronically)? by|\bdear)[ \t]?:?[ \t]+"
            rf"(?:Dr\.?\s)?(?P<v>{STOP}(?![A-Z]{{2}}){NAME})",
            sign=BY,
        ),
        shape("name", rf"\b{RELATION},?[ ](?P<v>{STOP}(?![A-Z]{{2}}){NAME})", sign=None),
        shape(
            "name",
            rf"(?P<v>{STOP}{WORD}(?:[ ](?:[A-Z]\.|{WORD})){{1,3}}),\s{CREDENTIAL}",
            sign=CREDENTIAL_SIGN,
        ),
        shape(
            "name",
            rf"(?:姓名|患者|病人|联系人|签名|主治医[师生])\s?(?:[:：]\s?(?P<v>{HAN}{{2,4}})(?!{HAN}))",
            sign=PERSON,
        ),
        shape("name", rf"(?:患者|病人)(?P<v>{SURNAME}{HAN}{{1,2}})(?=[，,。；;\s（(]|$)", sign=PERSON),
        shape("name", rf"(?P<v>{SURNAME}{HAN}{{0,2}})(?:医生|大夫|主任|先生|女士|护士|教授)", sign=PERSON),
    ]
