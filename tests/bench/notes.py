"""Clinical notes with planted identifiers, made from templates: the texts and the character spans that must be found.

Discharge summaries, progress notes, referral letters and phone notes in five languages. Every identifier is one of
many surface forms of its kind. A third of the forms of each kind is UNTUNED: these were written down before any pattern
of `residency.data.steps`, and no pattern is changed for one that was missed. Both lists come from one source and the
patterns were not written blind to them: recall on untuned forms is an upper bound for notes from elsewhere. All people,
numbers and places are drawn at random.

In a form, `⟦ ⟧` encloses the identifier, `#` is a digit, `?` a capital letter, `{field}` see `_fields`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

Forms = dict[str, dict[str, list[str]]]  # kind -> language -> forms; "*" stands in every language

UNTUNED: Forms = {
    "date": {
        "*": ["⟦{m}-{d}-{yy}⟧", "⟦{yyyy}-{mm}-{dd}T{H}:{M}:00Z⟧", "⟦{d}.{rom}.{yyyy}⟧"],
        "en": [
            "⟦{Mon}. {d}{th}, '{yy}⟧", "⟦{dd}{MON}{yyyy}⟧", "⟦{m}/{yyyy}⟧", "⟦{Month} the {d}{th}⟧",
            "⟦{mm}/{dd}/{yyyy} at {H}{M} hrs⟧", "mid-⟦{Month} {yyyy}⟧", "⟦{Month} {d}-{e}, {yyyy}⟧",
            "⟦{m}/{d}-{m}/{e}⟧", "⟦{yyyy} {Month} {d}⟧", "the ⟦{d}{th} {Month}⟧",
        ],
        "fr": ["⟦{d} {mois} {yyyy} à {H}h{M}⟧", "⟦{d} {mois}⟧"],
        "es": ["⟦{d} de {mes} del {yyyy}⟧", "⟦{d} {mes} {yyyy}⟧"],
        "it": ["⟦1° {mese} {yyyy}⟧", "⟦{mese} {yyyy}⟧"],
        "zh": ["⟦{yyyy}年{m}月{d}号⟧", "⟦{yyyy}.{mm}.{dd}⟧"],
    },
    "phone": {
        "*": ["⟦+1.617.###.####⟧", "⟦+44 (0)20 79## ####⟧", "⟦0049 30 90####⟧"],
        "en": [
            "⟦617/###-####⟧", "⟦(508)###-####⟧", "cell ⟦781#######⟧", "⟦617-2##-#### x##⟧",
            "⟦1 (212) 3##-####⟧", "beeper {hash}⟦3####⟧", "call back at ⟦555-01##⟧", "Fax ⟦(617) 3## ####⟧",
        ],
        "fr": ["⟦+33(0)1.42.3#.##.##⟧", "tél ⟦04.7#.##.##.##⟧"],
        "es": ["⟦+34 91 2## ## ##⟧", "móvil ⟦6########⟧"],
        "it": ["⟦+39 06 69## ####⟧", "cell. ⟦34#-#######⟧"],
        "zh": ["⟦138 00## ####⟧", "电话⟦010-655# ####⟧"],
    },
    "email": {
        "*": ["⟦{first}+clinic@mail.example.co.uk⟧", "mailto:⟦{user}@{domain}⟧", "⟦{first}_{yy}@ward3.{domain}⟧"],
    },
    "record": {
        "en": [
            "Med Rec {hash}: ⟦#######⟧", "Hosp No. ⟦?######⟧", "Chart {hash}⟦######⟧", "Encounter ID: ⟦1########⟧",
            "Specimen {hash} ⟦S##-####⟧", "CSN ⟦########⟧", "pump serial no. ⟦??#######⟧",
        ],
        "fr": ["N° de dossier : ⟦########⟧"],
        "es": ["NHC ⟦#######⟧"],
        "it": ["cartella n. ⟦####/{yyyy}⟧"],
        "zh": ["住院号：⟦########⟧"],
    },
    "ssn": {
        "en": ["Soc Sec {hash} ⟦5##-##-###4⟧", "SSN ending in ⟦#3##⟧", "⟦3## ## ###2⟧ (SSN)"],
        "fr": ["NIR ⟦1850578006084##⟧"],
        "es": ["D.N.I. ⟦12345678-Z⟧"],
        "it": ["C.F. ⟦RSSMRA85T10A562S⟧"],
        "zh": ["身份证：⟦11010519491231002X⟧"],
    },
    "url": {
        "*": ["⟦HTTPS://{domain}/R/####⟧", "⟦ftp://files.{domain}/scan-##.pdf⟧", "⟦{user}.github.io⟧"],
    },
    "ip": {
        "*": ["⟦10.{o}.{o}.{o}⟧:8080", "⟦fe80::1ff:fe23:4567:890a⟧", "⟦172.16.{o}.{o}⟧/24"],
    },
    "account": {
        "en": [
            "Acc't no ⟦##-#####-#⟧", "HICN: ⟦###-##-####A⟧", "BCBS ID ⟦???#########⟧", "Claim {hash}⟦########⟧",
            "driver's license ⟦S########⟧",
        ],
        "fr": ["mutuelle n° ⟦########⟧"],
        "es": ["póliza ⟦#########⟧"],
        "it": ["tessera sanitaria ⟦80380############⟧"],
        "zh": ["医保卡号 ⟦#########⟧"],
    },
    "address": {
        "en": [
            "⟦{n} {last} Pkwy., Unit {n}, {city} {state} #####-####⟧", "⟦P.O. Box ####, {city}, {state}⟧",
            "lives at ⟦{n}-B {last} Court⟧", "⟦{n} Old {last} Hwy⟧", "Zip: ⟦0####⟧",
        ],
        "fr": ["⟦{n} ter, bd {last}, 7500# Paris⟧"],
        "es": ["⟦Avda. de {last}, nº {n}, 3º B⟧"],
        "it": ["⟦P.zza {last} {n}, 0018# Roma⟧"],
        "zh": ["⟦上海市浦东新区世纪大道{n}号5栋302室⟧"],
    },
    "age": {
        "en": ["⟦9#⟧yo", "⟦9#⟧ yr old", "ninety-three-year-old"],
        "fr": ["âgée de ⟦9#⟧ ans"],
        "es": ["⟦9#⟧ años"],
        "it": ["anni ⟦9#⟧"],
        "zh": ["⟦9#⟧周岁"],
    },
    "name": {
        "en": [
            "Pt name - ⟦{last}, {first}⟧", "Seen with Nurse ⟦{last}⟧", "D/w ⟦{first} {last}⟧, NP",
            "Electronically signed: ⟦{first} ?. {last}⟧", "her sister-in-law ⟦{first}⟧",
        ],
        "fr": ["Madame ⟦{last}⟧"],
        "es": ["Doña ⟦{first} {last}⟧"],
        "it": ["la Sig.ra ⟦{last}⟧"],
        "zh": ["家属⟦{zh}⟧"],
    },
}  # fmt: skip

TUNED: Forms = {
    "date": {
        "*": [
            "⟦{yyyy}-{mm}-{dd}⟧", "⟦{dd}/{mm}/{yyyy}⟧", "⟦{dd}.{mm}.{yyyy}⟧", "⟦{yyyy}/{mm}/{dd}⟧",
            "⟦{dd}-{mm}-{yyyy}⟧", "⟦{dd}/{mm}/{yy}⟧",
        ],
        "en": [
            "⟦{mm}/{dd}/{yyyy}⟧", "⟦{m}/{d}/{yy}⟧", "⟦{Month} {d}, {yyyy}⟧", "⟦{Mon} {d} {yyyy}⟧",
            "⟦{Month} {d}{th}⟧",
            "⟦{d}{th} of {Month}⟧", "⟦{d} {Month} {yyyy}⟧", "⟦{d}-{Mon}-{yyyy}⟧", "⟦{d}-{Mon}⟧", "⟦{Month} {yyyy}⟧",
            "⟦{m}/{d}⟧", "⟦{mm}/{dd}/{yyyy} {H}:{M}⟧", "⟦{Month} {d}, {yyyy} at {h}:{M} PM⟧", "⟦{Mon}. {d}⟧",
            "⟦{Month} {d}{th}, {yyyy}⟧", "⟦{d}{th} of {Month}, {yyyy}⟧", "⟦{Mon}-{yyyy}⟧", "⟦{MONTH} {d}, {yyyy}⟧",
        ],
        "fr": ["⟦{d} {mois} {yyyy}⟧", "⟦1er {mois} {yyyy}⟧", "⟦{mois} {yyyy}⟧", "⟦{dd}/{mm}/{yyyy} à {H}h{M}⟧"],
        "es": ["⟦{d} de {mes} de {yyyy}⟧", "⟦{mes} de {yyyy}⟧", "⟦{d} de {mes}⟧"],
        "it": ["⟦{d} {mese} {yyyy}⟧", "⟦{d} {mese}⟧", "⟦{dd}/{mm}/{yyyy} ore {H}:{M}⟧"],
        "zh": ["⟦{yyyy}年{m}月{d}日⟧", "⟦{m}月{d}日⟧", "⟦{yyyy}年{m}月⟧", "⟦{yyyy}年{m}月{d}日 {H}:{M}⟧"],
    },
    "phone": {
        "*": [
            "⟦+33 1 42 3# ## ##⟧", "⟦+1 617 4## ####⟧", "⟦+44 20 79## ####⟧", "⟦+86 138 00## ####⟧",
            "⟦+49 30 90####⟧",
        ],
        "en": [
            "⟦(617) 5##-####⟧", "⟦617-5##-####⟧", "⟦617.5##.####⟧", "⟦617 5## ####⟧", "⟦1-800-4##-####⟧",
            "⟦617-5##-#### ext. ##⟧", "pager ⟦3####⟧", "Tel: ⟦6175######⟧", "phone ⟦5##-####⟧", "ext. ⟦####⟧",
            "⟦(617) 5##-####, ext ####⟧", "pager {hash} ⟦#####⟧", "⟦020 79## ####⟧",
        ],
        "fr": ["⟦01 42 3# ## ##⟧", "⟦01.42.3#.##.##⟧", "Tél. : ⟦06 12 ## ## ##⟧"],
        "es": ["⟦+34 912 ### ###⟧", "Tel. ⟦91 2## ## ##⟧", "teléfono ⟦6## ### ###⟧"],
        "it": ["⟦+39 02 88## ####⟧", "tel. ⟦06 69##-####⟧", "telefono ⟦3## ### ####⟧"],
        "zh": ["⟦1380013####⟧", "电话：⟦010-655#####⟧", "手机 ⟦139########⟧"],
    },
    "email": {
        "*": [
            "⟦{user}@{domain}⟧", "⟦{first}.{last}@{domain}⟧", "<⟦{user}@{domain}⟧>", "⟦{USER}@EXAMPLE.ORG⟧",
            "⟦{user}-##@mail.{domain}⟧", "⟦{user}@hospital.example⟧",
        ],
    },
    "record": {
        "en": [
            "MRN: ⟦#######⟧", "MRN ⟦########⟧", "MRN {hash}⟦###-##-##⟧", "Medical Record Number: ⟦??######⟧",
            "Case {hash}: ⟦##-####⟧", "Accession {hash} ⟦S##-#####⟧", "accession number ⟦?########⟧",
            "Patient ID: ⟦P######⟧", "Unit No: ⟦###-##-##-#⟧", "record no. ⟦#######⟧",
            "Device serial number: ⟦??#######⟧", "Serial {hash}: ⟦#########⟧", "Account/MRN ⟦#########⟧",
            "Visit {hash} ⟦########⟧",
        ],
        "fr": ["Dossier n° ⟦#######⟧", "IPP : ⟦##########⟧"],
        "es": ["Historia clínica nº ⟦######⟧", "N.º de historia: ⟦#######⟧"],
        "it": ["Cartella clinica n. ⟦########⟧", "Nosologico: ⟦##########⟧"],
        "zh": ["病历号：⟦########⟧", "病案号 ⟦######⟧", "门诊号：⟦#########⟧"],
    },
    "ssn": {
        "en": [
            "⟦4##-3#-2##1⟧", "SSN: ⟦4##-3#-2##1⟧", "SSN ⟦4##3#2##1⟧", "Social Security Number: ⟦4## 3# 2##1⟧",
            "SS{hash} ⟦4##-3#-2##1⟧", "last four of SSN ⟦2##1⟧", "SSN ⟦xxx-xx-2##1⟧",
        ],
        "fr": ["N° de sécurité sociale : ⟦1 85 05 78 006 084 ##⟧"],
        "es": ["DNI ⟦12345678Z⟧", "NIE: ⟦X1234567L⟧"],
        "it": ["codice fiscale ⟦RSSMRA85T10A562S⟧"],
        "zh": ["身份证号：⟦11010519491231002X⟧", "身份证号 ⟦110105199003078###⟧"],
    },
    "url": {
        "*": [
            "⟦https://www.{domain}/patients/####⟧", "⟦http://{domain}⟧", "⟦www.{domain}⟧",
            "⟦www.{domain}/chart?id=####⟧",
            "⟦portal.{domain}/u/{user}⟧", "⟦https://{domain}:8443/a-b_c/⟧",
        ],
    },
    "ip": {
        "*": [
            "⟦192.168.{o}.{o}⟧", "⟦{o}.{o}.{o}.7⟧", "IP: ⟦10.0.{o}.{o}⟧", "⟦2001:0db8:85a3:0000:0000:8a2e:0370:7334⟧",
            "⟦2001:db8::8a2e:370:7334⟧", "IP address ⟦172.16.{o}.{o}⟧",
        ],
    },
    "account": {
        "en": [
            "Account number: ⟦##########⟧", "Acct {hash}⟦########⟧", "Acct: ⟦####-####⟧",
            "Policy {hash}: ⟦??########⟧",
            "Member ID ⟦W#########⟧", "insurance ID: ⟦???########⟧", "Group no. ⟦######⟧",
            "Medicaid {hash} ⟦##########⟧",
            "Subscriber ID: ⟦?########⟧", "license no. ⟦?#######⟧", "card ⟦4111 1111 1111 1111⟧",
            "NPI ⟦1#########⟧", "VIN ⟦1HGCM82633A00####⟧",
        ],
        "*": ["IBAN ⟦DE89370400440532013000⟧", "⟦GB82 WEST 1234 5698 7654 32⟧"],
        "fr": ["N° d'assuré : ⟦#########⟧"],
        "es": ["Número de póliza: ⟦########⟧"],
        "it": ["polizza n. ⟦########⟧"],
        "zh": ["医保号：⟦##########⟧", "银行卡号 ⟦6222020200112233⟧"],
    },
    "address": {
        "en": [
            "⟦{n} {last} Street⟧", "⟦{n} {last} St., {city}, {state} #####⟧",
            "⟦{n} {last} Avenue, Apt {n}, {city}, {state} #####⟧",
            "⟦PO Box ####⟧", "⟦{n} North {last} Road⟧", "⟦{city}, {state} #####⟧", "ZIP code ⟦#####⟧",
            "⟦{n} {last} Blvd, Suite {n}⟧", "⟦{n} {last} Lane, {city}, {state}⟧", "⟦{n} {last} Drive⟧",
            "⟦{n} High Street, London SW1A 2AA⟧",
        ],
        "fr": ["⟦{n} rue {last}, 7500# Paris⟧", "⟦{n} avenue du Général {last}⟧", "⟦{n} bis, boulevard {last}⟧"],
        "es": ["⟦Calle {last} {n}, 2801# Madrid⟧", "⟦C/ {last}, {n}⟧", "⟦Avenida de {last} {n}⟧"],
        "it": ["⟦Via {last} {n}, 0018# Roma⟧", "⟦Piazza {last}, {n}⟧", "⟦Viale {last} {n}⟧"],
        "zh": [
            "⟦北京市朝阳区建国路{n}号⟧", "⟦杭州市西湖区文三路{n}号3单元201室⟧",
            "地址：⟦广东省深圳市南山区科技路{n}号⟧",
        ],
    },
    "age": {
        "en": [
            "⟦9#⟧-year-old", "⟦9#⟧ y/o", "⟦9#⟧ year old", "aged ⟦9#⟧", "Age: ⟦9#⟧", "age ⟦10#⟧",
            "⟦9#⟧ y.o.", "⟦9#⟧ years old",
        ],
        "fr": ["⟦9#⟧ ans", "âge : ⟦9#⟧"],
        "es": ["de ⟦9#⟧ años", "edad: ⟦9#⟧"],
        "it": ["di ⟦9#⟧ anni", "età ⟦9#⟧"],
        "zh": ["⟦9#⟧岁", "年龄：⟦9#⟧"],
    },
    "name": {
        "en": [
            "Dr. ⟦{last}⟧", "Dr. ⟦{first} {last}⟧", "Mr. ⟦{last}⟧", "Mrs. ⟦{last}⟧", "Ms. ⟦{first} {last}⟧",
            "Patient: ⟦{first} {last}⟧",
            "Name: ⟦{last}, {first}⟧", "Patient Name: ⟦{first} ?. {last}⟧", "Attending: ⟦{first} {last}⟧, MD",
            "signed by ⟦{first} {last}⟧", "her daughter ⟦{first}⟧", "his wife, ⟦{first} {last}⟧",
            "⟦{first} {last}⟧, M.D.",
            "PCP: ⟦{last}⟧", "PATIENT: ⟦{LAST}, {FIRST}⟧", "Professor ⟦{last}⟧",
        ],
        "fr": ["M. ⟦{last}⟧", "Mme ⟦{last}⟧", "Dr ⟦{first} {last}⟧", "Nom : ⟦{last}⟧"],
        "es": ["Sra. ⟦{last}⟧", "Dr. ⟦{last}⟧", "Paciente: ⟦{first} {last}⟧"],
        "it": ["Sig. ⟦{last}⟧", "Dott.ssa ⟦{last}⟧", "Paziente: ⟦{first} {last}⟧"],
        "zh": ["姓名：⟦{zh}⟧", "患者⟦{zh}⟧", "⟦{zh}⟧医生"],
    },
}  # fmt: skip

MONTHS = {
    "Month": "January February March April May June July August September October November December",
    "mois": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "mes": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "mese": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "rom": "I II III IV V VI VII VIII IX X XI XII",
}
FIRST = [
    "Maria", "James", "Linda", "Robert", "Aisha", "Kevin", "Priya", "Daniel",
    "Sofia", "Thomas", "Grace", "Ahmed", "Helen", "Marcus", "Julia", "Victor",
]  # fmt: skip
LAST = [
    "Whitfield", "O'Connor", "Garcia-Lopez", "Petrov", "Haddad", "Nguyen",
    "McAllister", "Brandt", "Okafor", "Lindqvist", "Moreau", "Tanaka",
]  # fmt: skip
ZH = ["王建国", "李秀英", "张伟", "刘洋", "陈静", "杨帆", "赵丽华", "黄志强", "周敏", "吴芳"]
CITIES = ["Springfield", "Riverside", "Georgetown", "Fairview", "Salem", "Clinton", "Madison", "Arlington"]
STATES = ["MA", "IL", "CA", "NY", "TX", "OH", "WA", "FL"]
DOMAINS = ["example.org", "example.com", "northclinic.org", "cityhospital.net", "med.example.edu"]

LINES: dict[str, dict[str, list[str]]] = {
    "en": {
        "discharge": [
            "DISCHARGE SUMMARY", "[name]", "[record]", "DOB: [date]", "[account]", "Date of admission: [date]",
            "Date of discharge: [date]",
            "The patient is a [age] woman with type 2 diabetes and a BP of 120/80 on arrival.",
            "She was admitted on [date] with chest pain, 5/10, troponin 0.04 ng/mL; EF 55-60%.",
            "Echocardiogram of [date] showed a 2/6 systolic murmur; potassium 3.9, sodium 138, WBC 7.2.",
            "Metoprolol 25 mg twice a day was started on [date] and continued; aspirin 81 mg daily, 1/2 tablet.",
            "ICD-10: I10, E11.9. Home address: [address].", "[ssn]", "Questions: [phone] or [email].",
            "Results are at [url].", "Uploaded from [ip].", "Discussed with [name] before discharge.",
        ],
        "progress": [
            "PROGRESS NOTE", "Seen on [date]. [record]. [age], pain 3/10, strength 5/5 in both legs.",
            "[name] reports no fever since [date].", "HR 72, RR 16, temp 98.6, SpO2 97% on 2 L. Hgb 11.2, ratio 1:4.",
            "CT from [date] shows a 3 x 4 cm lesion at L4-L5; CA 19-9 was 37.",
            "Plan: recheck on [date]; call [phone].",
            "[account]. Remote session from [ip].", "Message sent to [email] and posted to [url].",
        ],
        "referral": [
            "[name]", "[date]", "[address]",
            "Dear colleague, thank you for seeing this [age] patient, last reviewed on [date].",
            "[ssn]; [record].",
            "HbA1c was 7.2% and LDL 3.4 mmol/L; Stage 2 disease since 2015, vitamin B12 300 pg/mL.",
            "Please reply to [email] or telephone [phone].", "[account]", "Forms: [url]",
        ],
        "phone": [
            "TELEPHONE NOTE", "Call on [date] from [name], number [phone].", "[record]", "[address] confirmed.",
            "Took 2 tablets of 500 mg at 8:30; advised 1,200 mL a day. Next visit [date].", "[account]",
            "Wrote to [email].",
            "[ssn]", "The monitor reports from [ip]; see [url].",
        ],
    },
    "fr": {
        "lettre": [
            "COMPTE RENDU", "[name]", "[record]", "Patient [age], hospitalisé le [date] pour une dyspnée.",
            "Né le [date].",
            "TA 120/80 mmHg, EVA 5/10, hémoglobine 11,2 g/dl, paracétamol 1 g toutes les 6 heures.", "[address]",
            "Contact : [phone], [email].", "[ssn]", "[account]", "Voir [url] ([ip]).",
            "Scanner du [date] sans anomalie.",
        ],
    },
    "es": {
        "informe": [
            "INFORME DE ALTA", "[name]", "[record]", "Paciente [age] que ingresa el [date] por dolor torácico 5/10.",
            "TA 120/80, glucosa 98 mg/dl, diabetes tipo 2, metformina 850 mg.", "[address]",
            "Contacto: [phone], [email].",
            "[ssn]", "[account]", "Véase [url] ([ip]).", "Revisión el [date].",
        ],
    },
    "it": {
        "lettera": [
            "LETTERA DI DIMISSIONE", "[name]", "[record]", "Paziente [age], ricoverato il [date] per dispnea.",
            "PA 120/80, dolore 5/10, emoglobina 11,2 g/dl, ramipril 5 mg.", "[address]",
            "Contatti: [phone], [email].",
            "[ssn]", "[account]", "Vedi [url] ([ip]).", "Controllo il [date].",
        ],
    },
    "zh": {
        "小结": [
            "出院小结", "[name]", "[record]", "[age]，因胸痛于[date]入院。",
            "血压120/80 mmHg，疼痛5/10分，血红蛋白112 g/L，2型糖尿病。",
            "阿司匹林100 mg，每日1次，服用3个月。", "[address]", "联系：[phone]，[email]。", "[ssn]", "[account]",
            "见 [url] （[ip]）。", "复诊：[date]",
        ],
    },
}  # fmt: skip
LANGUAGES = ["en"] * 6 + ["fr", "es", "it", "zh"]
SLOT = re.compile(r"\[([a-z]+)\]")


@dataclass(frozen=True)
class Planted:
    """An identifier of a note: its kind, `[start, end)` in characters, and the form it was made from."""

    kind: str
    start: int
    end: int
    form: str
    tuned: bool


@dataclass(frozen=True)
class Note:
    """A note, its language, and what was planted in it."""

    text: str
    language: str
    planted: list[Planted]


def notes(count: int, seed: int) -> Iterator[Note]:
    """Notes, the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        language = draw.choice(LANGUAGES)
        yield _note(draw, language, draw.choice(list(LINES[language].values())))


def _note(draw: random.Random, language: str, lines: list[str]) -> Note:
    """Two lines of three, in their order, filled."""
    text, planted = "", list[Planted]()
    for line in lines:
        if draw.random() < 0.35:
            continue
        for place, piece in enumerate(SLOT.split(line)):
            if place % 2 == 0:
                text += piece
                continue
            form, tuned = _choose(draw, piece, language)
            before, value, after = (_fill(draw, part) for part in _parts(form, _fields(draw)))
            if value:
                start = len(text) + len(before)
                planted.append(Planted(piece, start, start + len(value), form, tuned))
            text += before + value + after
        text += "\n"
    return Note(text, language, planted)


def _choose(draw: random.Random, kind: str, language: str) -> tuple[str, bool]:
    """A form of a kind; two of three are tuned."""
    tuned = draw.random() < 2 / 3
    forms = (TUNED if tuned else UNTUNED)[kind]
    return draw.choice(forms.get("*", []) + forms.get(language, [])), tuned


def _parts(form: str, fields: dict[str, str]) -> tuple[str, str, str]:
    """What stands before, in and after `⟦ ⟧`, with the fields that belong together filled in."""
    for name, value in fields.items():
        form = form.replace("{" + name + "}", value)
    before, _, rest = form.partition("⟦")
    value, _, after = rest.partition("⟧")
    return (before, value, after) if rest else ("", form, "")


def _fields(draw: random.Random) -> dict[str, str]:
    """One date, one person and one place."""
    day, month, year = draw.randint(2, 26), draw.randint(1, 12), draw.randint(1938, 2024)
    first, last = draw.choice(FIRST), draw.choice(LAST)
    user = first[0].lower() + re.sub(r"\W", "", last).lower()
    named = {name: months.split()[month - 1] for name, months in MONTHS.items()}
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day // 10 != 1 else 0, "th")
    return {
        **named, "Mon": named["Month"][:3], "MON": named["Month"][:3].upper(), "MONTH": named["Month"].upper(),
        "d": str(day), "dd": f"{day:02}", "e": str(day + 2), "m": str(month), "mm": f"{month:02}", "th": ending,
        "yyyy": str(year), "yy": f"{year % 100:02}", "H": str(draw.randint(10, 23)), "M": str(draw.randint(10, 59)),
        "h": str(draw.randint(1, 11)), "first": first, "last": last, "user": user, "zh": draw.choice(ZH),
        "FIRST": first.upper(), "LAST": last.upper(), "USER": user.upper(), "domain": draw.choice(DOMAINS),
        "city": draw.choice(CITIES), "state": draw.choice(STATES),
    }  # fmt: skip


def _fill(draw: random.Random, part: str) -> str:
    """Random numbers, digits and letters, drawn anew at every place."""
    part = part.replace("{hash}", "\0")
    part = re.sub(r"\{([on])\}", lambda found: str(draw.randint(2, 254 if found[1] == "o" else 299)), part)
    part = re.sub("#", lambda _: str(draw.randint(0, 9)), part)
    part = re.sub(r"\?(?!id)", lambda _: draw.choice("ABCDEFGHJKLMNPRSTVWXYZ"), part)
    return part.replace("\0", "#")
