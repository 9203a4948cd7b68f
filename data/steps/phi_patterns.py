"""Surface forms of the other identifiers of notes: telephones, numbers with a label, addresses, ages, labelled names.

What Presidio recognises with a checksum or a parser (cards, IBAN, IP and MAC addresses, national numbers) is its own
part: `residency.data.steps.phi_finder`. Labels are in English, French, Spanish, Italian and Chinese."""

from __future__ import annotations

import re

from residency.data.steps.phi_shape import AT, BY, COLON, HOST, PERSON, Check, Shape, digits, shape

NUMBER = r"(?:n[°ºo]\.?|n\.º?|nr\.?|num(?:ber|\.)?|num[ée]ro|n[úu]mero|no\.|#|id(?:entifier|entification)?\b|code\b)"
GLUE = rf"(?:\s?{NUMBER})*[\s:：#.=-]{{0,4}}(?:is\s|es\s|est\s|è\s|为)?"
VALUE = r"(?P<v>[A-Za-z0-9*](?:[A-Za-z0-9*]|[./-](?=[A-Za-z0-9*])){2,24})(?![A-Za-z0-9])"
SPACED = r"(?P<v>[A-Z]{0,4}\d(?:[A-Za-z0-9]|[ -](?=\d)){3,24})(?![A-Za-z0-9])"

RECORD_ALONE = (
    r"M\.?R\.?N\.?|medical records?|med\.? rec\.?|record|chart|case|accession|specimen|encounter|visit|hospital|hosp\.?|unit"
    r"|patient|pt\.?|device|serial|lab(?:oratory)?|file|study|order|requisition|admission|registration|pathology|biopsy"
    r"|implant|barcode|CSN|FIN|EMPI|URN?|MR|(?:num[ée]ro |n[°ºo] |n° )?(?:de )?dossier|IPP|NIP|s[ée]jour"
    r"|historia(?: cl[íi]nica)?|NHC|expediente|episodio|cartella(?: clinica)?|nosologico|pratica|ricovero"
)
RECORD_SURE = r"M\.?R\.?N\.?|CSN|EMPI|IPP|NHC|nosologico|historia cl[íi]nica|cartella clinica|dossier"
RECORD_CHINESE = (
    r"(?:病历|病案|住院|门诊|就诊|登记|检查|标本|条码|病理|影像|设备|序列|患者|就诊卡|档案|登记|病床)(?:编)?号码?"
)
ACCOUNT_ALONE = (
    r"account|acct\.?|a/c|policy|member(?:ship)?|insurance|insured|group|subscriber|beneficiary|medicaid|medicare|MBI|HICN?"
    r"|claim|licen[sc]e|certificate|DEA|NPI|VIN|plate|passport|card|routing|invoice|plan|assur[ée]e?|adh[ée]rent|police"
    r"|contrat|mutuelle|carte vitale|compte|immatriculation|p[óo]liza|cuenta|tarjeta(?: sanitaria)?|afiliado|afiliaci[óo]n"
    r"|matr[íi]cula|pasaporte|polizza|conto|tessera(?: sanitaria)?|targa|passaporto"
)
ACCOUNT_SURE = (
    r"acct\.?|account|medicaid|medicare|NPI|VIN|DEA|HICN?|MBI|p[óo]liza|polizza|tessera sanitaria|tarjeta sanitaria"
)
ACCOUNT_CHINESE = r"(?:医保|社保|医疗保险|社会保障|银行|保单|车牌|护照|信用)(?:卡)?号码?|账号|卡号"
SSN_LABEL = (
    r"SSNs?|SS\s?#|SS no\.?|social security|soc\.? sec\.?|s[ée]curit[ée] sociale|NIR\b|N\.?H\.?S\.?(?= (?:no|num|#))"
    r"|national insurance|seguridad social|D\.?N\.?I\.?|N\.?I\.?[EF]\.?|codice fiscale|cod\.? fisc\.?|C\.F\.|身份证(?:号码?)?"
)
TELEPHONE = (
    r"(?:tel(?:ephone|[ée]fono)?|t[ée]l(?:[ée]phone)?|phone|ph|cell(?:ulare|ular)?|mobile|mob|m[óo]vil|portable|cel|fax"
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


def _valid_in(*regions: str) -> Check:
    def check(found: re.Match[str]) -> bool:
        import phonenumbers

        return any(
            phonenumbers.is_valid_number(phonenumbers.parse(found["v"], region)) for region in regions
        )

    return check


def telephones() -> list[Shape]:
    """Written North American, international, French, British, Italian, Spanish and Chinese; pagers and extensions."""
    extension = r"(?:,?\s?(?:ext(?:n|ension)?|x|poste|int(?:erno)?|分机)\.?\s?:?\s?\d{1,6})?"
    start, end = r"(?<![A-Za-z0-9.+/-])", r"(?![A-Za-z0-9]|[.-]\d)"
    return [
        shape("phone", rf"{start}(?:(?:\+|00)?1[ .-]?)?(?:\(\d{{3}}\)[ -]?|\d{{3}}[ .\-/–])\d{{3}}[ .\-–]\d{{4}}{extension}{end}"),
        shape("phone", rf"{start}(?:\+?1[ .-]?)?\(\d{{3}}\)\s?\d{{7}}{extension}{end}"),
        shape("phone", rf"(?<![A-Za-z0-9+])(?P<v>(?:\+|00(?=[1-9])|011 )\d{{1,3}}(?:[ .\-/]?\(?\d{{1,8}}\)?){{1,7}}){extension}{end}", _possible),
        shape("phone", rf"{start}0[1-9](?:([ .-])\d\d)(?:\1\d\d){{3}}{end}"),
        shape("phone", rf"{start}(?P<v>0\d{{1,4}}[ /-]\d{{3,4}}[ -]?\d{{3,4}}){extension}{end}", _valid_in("GB", "IT")),
        shape("phone", rf"{start}(?P<v>3[1-9]\d[ -]\d{{3}}[ -]?\d{{4}}){end}", _valid_in("IT")),
        shape("phone", rf"{start}(?P<v>9\d \d{{3}} \d\d \d\d){end}", _valid_in("ES")),
        shape("phone", rf"{start}1[3-9]\d([ -]?)\d{{4}}\1\d{{4}}{end}"),
        shape("phone", rf"{start}(?P<v>0\d{{2,3}}-\d{{4}}[ -]?\d{{3,4}}){extension}{end}", _valid_in("CN")),
        shape("phone", rf"(?i:\b{TELEPHONE})\.?{GLUE}(?:at\s|au\s|al\s)?[\s:]{{0,2}}(?P<v>\(?\+?\d[\d ().\-/]{{5,18}}\d{extension})(?![A-Za-z0-9])", _telephone),
        shape("phone", rf"(?:电话|手机|传真|座机|热线)(?:号码?)?\s?(?:为|是)?\s?[:：]?\s?(?P<v>\(?\+?\d[\d ()\-]{{5,18}}\d{extension})", _telephone),
        shape("phone", rf"(?i:\b(?:pager|beeper|bleep|ext(?:ension|\.)?)){GLUE}\s?(?P<v>\d[\d-]{{2,9}})(?![A-Za-z0-9])"),
    ]  # fmt: skip


def labelled_numbers() -> list[Shape]:
    """Records, accounts, insurance, licences, devices and social security: digits after what says so."""
    return [
        shape("record", rf"(?i:(?<![A-Za-z])(?:{RECORD_ALONE})\s?(?:serial\s)?{NUMBER}){GLUE}{VALUE}", _at_least(4)),
        shape("record", rf"(?i:(?<![A-Za-z])(?:{RECORD_SURE})){GLUE}{VALUE}", _at_least(4)),
        shape("record", rf"(?i:n[°ºo.]{{1,2}}|n[úu]mero|num[ée]ro)\s?(?i:de\s)?(?i:{RECORD_SURE}|historia){GLUE}{VALUE}", _at_least(4)),
        shape("record", rf"(?:{RECORD_CHINESE})\s?(?:为|是)?\s?[:：]?\s?{VALUE}", _at_least(4)),
        shape("account", rf"(?i:(?<![A-Za-z])(?:{ACCOUNT_ALONE})\s?{NUMBER}){GLUE}(?:{SPACED})", _at_least(4)),
        shape("account", rf"(?i:(?<![A-Za-z])(?:{ACCOUNT_ALONE})\s?{NUMBER}){GLUE}{VALUE}", _at_least(4)),
        shape("account", rf"(?i:(?<![A-Za-z])(?:{ACCOUNT_SURE})){GLUE}{VALUE}", _at_least(5)),
        shape("account", rf"(?i:n[°ºo.]{{1,2}}|n[úu]mero|num[ée]ro)\s?(?i:de\s|d['’]\s?)?(?i:{ACCOUNT_ALONE}){GLUE}{VALUE}", _at_least(4)),
        shape("account", rf"(?:{ACCOUNT_CHINESE})\s?(?:为|是)?\s?[:：]?\s?(?P<v>[A-Z0-9\u4e00-\u9fff]?[A-Z0-9][A-Z0-9 -]{{3,24}}[A-Z0-9])", _at_least(4)),
        shape("ssn", r"(?<![A-Za-z0-9-])(?!000|666)(?:\d{3}|[xX*]{3})-(?:\d\d|[xX*]{2})-\d{4}(?![A-Za-z0-9]|-\d)"),
        shape("ssn", rf"(?i:(?<![A-Za-z])(?:{SSN_LABEL})){GLUE}(?i:ending in |ends in |last (?:4|four)(?: digits)?(?: of)?)?[\s:：]{{0,2}}(?P<v>[A-Za-z0-9*](?:[0-9xX*AB]|[ .-](?=[0-9xX*A-Z])){{2,22}}[A-Za-z0-9]?)(?![A-Za-z0-9])", _at_least(4)),
        shape("ssn", r"(?<![A-Za-z0-9])[12] \d\d (?:0[1-9]|1[0-2]|[2-9]\d) (?:\d\d|2[AB]) \d{3} \d{3}(?: \d\d)?(?!\d)"),
        shape("ssn", r"(?<![A-Za-z0-9])[1-9]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![A-Za-z0-9])"),
        shape("record", r"(?<![A-Za-z0-9])[A-Z]{1,2}\d\d-\d{4,6}(?![A-Za-z0-9])"),
    ]  # fmt: skip


CAPITAL = r"[A-ZÀ-Þ][\w.'’-]*"
STREET = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Way"
    r"|Parkway|Pkwy|Highway|Hwy|Circle|Cir|Trail|Trl|Route|Rte|Alley|Crescent|Close|Pike|Turnpike|Loop|Row|Expressway)"
)
STATE = (
    r"(?:A[LKZR]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])"
)
CITY = rf"{CAPITAL}(?:[ ]{CAPITAL}){{0,2}}"
US_TAIL = rf"(?:{CITY},?\s{{1,2}}{STATE}\b(?:,?\s{{1,2}}\d{{5}}(?:-\d{{4}})?)?|{CITY},\s(?:Massachusetts|California|Texas|New York|Ohio|Florida)\b(?:\s\d{{5}})?)"
UK_POST = r"[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2}\b"
DE = r"(?:(?:de|du|des|del|della|dei|la|le|les|los|las|l['’]|d['’]|di|à)\s?)*"
ROOM = r"(?:[,\s]{1,2}(?:Apt|Apartment|Unit|Suite|Ste|Floor|Fl|Room|Rm|Bldg|#)\.?\s?#?[A-Z0-9-]{1,5})?"
POSTED = rf"(?:,?\s(?:[A-Z]-)?\d{{5}}\s{CITY}(?:\s\([A-Z]{{2}}\))?)?"


def addresses() -> list[Shape]:
    """Streets with a house number, post boxes, and postcodes where something says that they are one."""
    romance = (
        r"(?:Calle|C/|Cl\.|Avenida|Avda?\.?|Av\.|Paseo|Plaza|Pza\.?|Camino|Carretera|Ctra\.|Ronda|Via|Viale|V\.le|Piazza|P\.zza"
        r"|P\.za|Piazzale|Corso|C\.so|Largo|Vicolo|Strada|Lungotevere|Contrada)"
    )
    return [
        shape("address", rf"(?<![A-Za-z0-9./-])\d{{1,5}}(?:-?[A-Z]|-\d{{1,4}}|½)?\s(?:[NSEW]{{1,2}}\.?\s)?(?:{CAPITAL}[ ]|\d{{1,3}}(?:st|nd|rd|th)[ ]){{1,4}}{STREET}\b\.?(?:\s[NSEW]{{1,2}}\b\.?)?{ROOM}(?:,?\s{{1,2}}(?:{US_TAIL}|{CITY},?\s{UK_POST}))?"),
        shape("address", rf"\b(?i:P\.?\s?O\.?\s?Box|post office box)\s#?\d+(?:,?\s{US_TAIL})?"),
        shape("address", rf"\b{CITY},\s{{1,2}}{STATE}\s{{1,2}}\d{{5}}(?:-\d{{4}})?(?!\d)"),
        shape("address", rf"\b[A-Z][a-z]+,?\s{UK_POST}"),
        shape("address", r"(?i:\bzip(?:\s?code)?|\bpost(?:al\s)?code|\bcode postal|\bc[óo]digo postal|\bC\.?P\.|\bCAP\b|邮编|邮政编码)\W{0,3}(?P<v>\d{5,6}(?:-\d{4})?)(?!\d)"),
        shape("address", rf"(?<![A-Za-z0-9./-])\d{{1,4}}(?:\s?(?:bis|ter|quater))?,?\s(?i:rue|avenue|av\.?|boulevard|bld|bd|place|pl\.|chemin|all[ée]e|impasse|route|quai|cours|square|passage)\s{DE}{CAPITAL}(?:[ ]{DE}{CAPITAL}){{0,3}}{POSTED}"),
        shape("address", rf"(?<![A-Za-z]){romance}\s?{DE}{CAPITAL}(?:[ ]{DE}{CAPITAL}){{0,3}},?\s(?:n[.º°]{{0,2}}\s?)?\d{{1,4}}(?:/?[A-Za-z]\b)?(?:,?\s\d{{1,2}}[º°ª](?:\s?[A-Z]\b)?)?{POSTED}"),
        shape("address", r"(?:[^\W\d住址于在为：A-Za-z]{2,6}?(?:省|自治区|市|区|县|镇|乡|街道)){0,4}[^\W\d住址于在为：A-Za-z]{1,8}(?:路|街|道|巷|弄|胡同|里)\d{1,5}(?:号|弄)(?:\d{1,4}(?:号楼|栋|幢|座|单元|室|楼|层|号))*"),
        shape("address", r"(?i:(?<!IP )(?<!mail )\baddress|\badresse|\bdomicile|\bdirecci[óo]n|\bdomicilio|\bindirizzo|\bresidenza)\s?:\s{0,2}(?P<v>(?=[^\n;@]{0,40}\d)[\dA-ZÀ-Þ][\w .,'’#º°/-]{5,80}\w)(?<!\.)", _street_like),
    ]  # fmt: skip


def _street_like(found: re.Match[str]) -> bool:
    """A label `Address:` may also come before a page or a computer."""
    return not re.search(r"(?i)https?|www|\d\.\d+\.\d", found["v"])


def ages() -> list[Shape]:
    """Ages over 89 (45 CFR 164.514(b)(2)(i)(C)), in digits and in words."""
    over = r"(?P<v>9\d|1[0-2]\d)"
    return [
        shape("age", rf"(?<![\d.,/]){over}(?:[\s-]?(?:years?|yrs?)[\s-]?old|\s?-?y[./]?\s?o\b|\s?y/o|\s?(?:ans|años|anni)(?![A-Za-zÀ-ÿ])|\s?周?岁)"),
        shape("age", rf"(?i:\baged?|\bâg[ée]e?s?(?: de)?|\bâge|\bedad|\betà|年龄)\s?(?:of\s|is\s|de\s|di\s)?[:：]?\s?{over}(?![\d.%])"),
        shape("age", r"(?i:(?P<v>\bninety(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?)[- ]years?[- ]old)", sign=None),
    ]  # fmt: skip


WORD = r"(?:[A-ZÀ-Þ](?:[A-Za-zÀ-ÿ]|['’][A-Za-zÀ-ÿ]{2,}|-[A-ZÀ-Þ])*)"
PARTICLE = r"(?:(?:de|da|di|del|della|van|von|der|den|la|le|bin|al)[ ]){0,2}"
NAME = rf"{WORD}(?:[ ]{PARTICLE}(?:[A-Z]\.|{WORD})){{0,3}}"
STOP = (
    r"(?!(?:The|This|That|No|Not|None|Is|Has|Had|Was|Denies|Reports|States|Presents|See|Unknown|Yes|Male|Female|Same|Self"
    r"|Stable|Age|Date|He|She|It|They|We|You|A|An|In|On|At|For|To|Colleague|Sir|Madam|Doctor|Medicare|Call|Please|Patient|PATIENT|Pt|Name|Attending|PCP)\b)"
)
CREDENTIAL = r"(?:M\.?D|D\.?O|R\.?N|N\.?P|PA(?:-C)?|Ph\.?D|FACS|LPN|MSW|LCSW|DDS|DPM|PharmD|MBBS|CRNA|APRN)\b"
LISTED = rf"{WORD},?(?:[ ](?!{CREDENTIAL}){PARTICLE}(?:[A-Z]\.|{WORD}),?){{0,3}}(?<!,)"  # also Family, Given
CREDENTIAL_SIGN = re.compile(rf",\s{CREDENTIAL}")
RELATION = (
    r"(?:daughter|son|wife|husband|mother|father|sister|brother|partner|spouse|niece|nephew|aunt|uncle|cousin|friend"
    r"|neighbou?r|caregiver|guardian|grandson|granddaughter|grandmother|grandfather|stepson|stepdaughter|roommate)"
)
ROLE = (
    r"(?:patient(?: name)?|pt(?:\.? name)?|(?:full |last |first |family |given )?name|attending(?: physician)?|provider"
    r"|physician|surgeon|PCP|resident|consultant|author|referring (?:physician|provider|doctor)|cc|re|next of kin"
    r"|emergency contact|guardian|attn|anesthesiologist|radiologist|pathologist|interpreter|nom|pr[ée]nom|m[ée]decin"
    r"|nombre|apellidos?|paciente|m[ée]dico|nome|cognome|paziente|medico)"
)
SURNAME = r"[王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高梁郑谢宋唐许韩冯邓曹彭曾萧田董袁潘蔡蒋余杜叶程魏苏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦傅方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤]"
HAN = r"[\u4e00-\u9fff]"


def names() -> list[Shape]:
    """Names after a title, a label or a kinship, and before a credential; not those that only a reader would know."""
    return [
        shape("name", rf"(?<![A-Za-z])(?:Dr|Mrs?|Ms|Miss|Mx|Prof|Professor|Doctor|Mme|Mlle|Madame|Monsieur|Docteur|Sra?|Srta|Señora?|Doña|Don|Dra|Sig|Sig\.ra|Signora?|Dott|Dott\.ssa|Dottor|Dottoressa)\.?\s(?P<v>{STOP}{NAME})", sign=None),
        shape("name", rf"(?<![A-Z]\.\s)(?<![A-Za-z.])M\.\s(?P<v>{WORD})(?!\.)", sign=None),
        shape("name", rf"(?im:(?:^|(?<=[.;,(\s]))(?<!brand )(?<!generic )(?<!drug )(?<!test )(?<!product ){ROLE})[ \t]?[:：][ \t]*(?P<v>{STOP}{LISTED})", sign=COLON),
        shape("name", rf"(?i:\b(?:signed|dictated|transcribed|referred|reviewed|seen|reported|prepared|authored|performed|verified|accompanied)(?: electronically)? by|\bdear)[ \t]?:?[ \t]+(?:Dr\.?\s)?(?P<v>{STOP}{NAME})", sign=BY),
        shape("name", rf"\b{RELATION},?\s(?P<v>{STOP}{NAME})", sign=None),
        shape("name", rf"(?P<v>{STOP}{WORD}(?:[ ](?:[A-Z]\.|{WORD})){{1,3}}),\s{CREDENTIAL}", sign=CREDENTIAL_SIGN),
        shape("name", rf"(?:姓名|患者|病人|联系人|签名|主治医[师生])\s?(?:[:：]\s?(?P<v>{HAN}{{2,4}})(?!{HAN}))", sign=PERSON),
        shape("name", rf"(?:患者|病人)(?P<v>{SURNAME}{HAN}{{1,2}})(?=[，,。；;\s（(]|$)", sign=PERSON),
        shape("name", rf"(?P<v>{SURNAME}{HAN}{{0,2}})(?:医生|大夫|主任|先生|女士|护士|教授)", sign=PERSON),
    ]  # fmt: skip


TOP_LEVEL = r"(?:com|org|net|edu|gov|mil|io|info|biz|app|dev|health|eu|uk|fr|cn|ca|au|ch|nl|jp|de|es|it)"
PATH = r"[^\s<>\"'（）()，。；、\u4e00-\u9fff]*[^\s<>\"'（）()，。；、\u4e00-\u9fff.,;:!?\]}]"


def web() -> list[Shape]:
    """E-mail addresses and pages; a country's ending that is a word too only after two dots or before a path."""
    return [
        shape("email", r"[A-Za-z0-9À-ÿ_%+'-](?:[A-Za-z0-9À-ÿ._%+'-]{0,62}[A-Za-z0-9À-ÿ_%+-])?@[A-Za-z0-9À-ÿ-]+(?:\.[A-Za-z0-9À-ÿ-]+)+", sign=AT),
        shape("url", rf"(?i:\b(?:https?|s?ftps?)://){PATH}", sign=HOST),
        shape("url", rf"(?i:(?<![A-Za-z0-9@])www\d?\.){PATH}", sign=HOST),
        shape("url", rf"(?<![A-Za-z0-9@._-])(?:[a-z0-9-]+\.)+(?<=[a-z0-9-][.]){TOP_LEVEL}(?![A-Za-z0-9-])(?::\d+)?(?:/{PATH})?", _host, sign=HOST),
    ]  # fmt: skip


def _host(found: re.Match[str]) -> bool:
    """Not a sentence whose space was lost (`of it.it`)."""
    host = re.split(r"[:/]", found[0])[0]
    return not host.endswith((".it", ".es", ".de", ".au", ".ch")) or host.count(".") > 1 or "/" in found[0]
