"""Identifiers of every kind are found, what only looks like one stays, and no message holds an identifier."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from residency.data.curation.batch import Batch
from residency.data.steps.phi import Phi
from residency.data.steps.phi_finder import Finder, Hit, joined
from residency.data.steps.settings import PhiSettings
from residency.errors import Exit, ResidencyError


@pytest.fixture(scope="module")
def phi() -> Phi:
    return Phi(PhiSettings())


def replaced(phi: Phi, text: str) -> str:
    batch = Batch([{"id": "1", "text": text}])
    assert phi(batch) == [None]
    return str(batch.rows[0]["text"])


FOUND = {
    "date": [
        "2019-03-14", "03/14/2019", "14.03.2019", "3/14/19", "March 14, 2019", "14th of March", "Mar 14", "14-Mar-2019",
        "March 2019", "MARCH 14, 2019", "03/14/2019 14:30", "14 mars 2019", "1er avril 2019", "14 de marzo de 2019",
        "14 marzo 2019", "2019年3月14日", "3月14日", "二〇一九年三月十四日", "3/14-3/18",
    ],
    "phone": [
        "(617) 555-0142", "617-555-0142", "617.555.0142", "1-800-555-0142", "617-555-0142 ext. 22", "+33 1 42 34 56 78",
        "01 42 34 56 78", "+44 20 7946 0958", "13800138000", "+86 138 0013 8000",
    ],
    "email": ["j.doe@example.org", "JDOE@EXAMPLE.ORG", "j-doe99@ward.hospital.example"],
    "url": ["https://www.example.org/a?b=1", "www.example.com", "portal.example.org/u/doe"],
    "ip": ["192.168.12.7", "2001:db8::8a2e:370:7334"],
    "ssn": ["412-34-2981", "12345678Z", "RSSMRA85T10A562S", "11010519491231002X", "1 85 05 78 006 084 36"],
    "account": ["DE89370400440532013000", "4111 1111 1111 1111"],
    "address": [
        "12 Elm Street", "12 Elm St., Salem, MA 01970", "PO Box 1234", "Salem, MA 01970", "12 rue Moreau, 75002 Paris",
        "Calle Moreau 12, 28013 Madrid", "Via Moreau 5, 00184 Roma", "北京市朝阳区建国路88号",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "form"), [(kind, form) for kind, forms in FOUND.items() for form in forms])
def test_forms_of_each_kind_are_found_whole(phi: Phi, kind: str, form: str) -> None:
    assert replaced(phi, f"Noted: {form}; stable.") == f"Noted: [{kind.upper()}]; stable."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MRN: 1234567, stable", "MRN: [RECORD], stable"),
        ("Medical record number AB123456.", "Medical record number [RECORD]."),
        ("Accession # S19-12345", "Accession # [RECORD]"),
        ("Device serial number: XK7712345", "Device serial number: [RECORD]"),
        ("病历号：00123456。", "病历号：[RECORD]。"),
        ("Dossier n° 1234567", "Dossier n° [RECORD]"),
        ("Member ID W123456789", "Member ID [ACCOUNT]"),
        ("Policy #: XY12345678", "Policy #: [ACCOUNT]"),
        ("Número de póliza: 12345678", "Número de póliza: [ACCOUNT]"),
        ("last four of SSN 2981", "last four of SSN [SSN]"),
        ("Tel: 6175550142", "Tel: [PHONE]"),
        ("pager 31234", "pager [PHONE]"),
        ("电话：010-65529988", "电话：[PHONE]"),
        ("ZIP code 02139", "ZIP code [ADDRESS]"),
        ("seen on 3/14 with fever", "seen on [DATE] with fever"),
        ("none since last March", "none since last [DATE]"),
        ("a 92-year-old man, aged 93", "a [AGE]-year-old man, aged [AGE]"),
        ("患者92岁，男性", "患者[AGE]岁，男性"),
        ("Dr. Whitfield's note", "Dr. [NAME]'s note"),
        ("Patient: Maria O'Connor", "Patient: [NAME]"),
        ("Name: Garcia-Lopez, Maria", "Name: [NAME]"),
        ("signed by Grace Okafor, RN", "signed by [NAME], RN"),
        ("his daughter Julia called", "his daughter [NAME] called"),
        ("姓名：王建国，男", "姓名：[NAME]，男"),
        ("Mme Moreau se plaint de fièvre", "Mme [NAME] se plaint de fièvre"),
    ],
)
def test_a_label_stays_and_its_identifier_goes(phi: Phi, text: str, expected: str) -> None:
    assert replaced(phi, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "BP 120/80, HR 72, RR 16, temp 98.6, SpO2 97% on 2 L.",
        "Pain was 5/10 on arrival, from 8/10 to 2/10; strength 5/5, a 2/6 murmur.",
        "Took 1/2 tablet of 25 mg; 1,200 mL; 0.9% saline; 3 x 4 cm; ratio 1:4; 5-10 mg; 3/4 of a cup.",
        "Type 2 diabetes, stage III, grade 3/4, ICD-10: I10, E11.9, F32.1; CPT 99213.",
        "Sept-5, SEPT9, MARCH1, OCT4, Oct-4, DEC1, BRCA1, CD4+ and IL-6 were measured.",
        "In 2019, and between 1998 and 2003; since 2015; during the 1990s.",
        "See section 1.2.3.4, chapter 12.10, table 3-2; the enzyme EC 3.1.21.4.",
        "M. tuberculosis, E. coli, S. aureus; Mycobacterium avium.",
        "It may 5 times be repeated; march on; in august company.",
        "Sodium 138, potassium 3.9, WBC 7.2, platelets 250,000; CA 19-9 37; L4-L5; T12.",
        "A 64-year-old man; 90% of patients; 95 mg/dL; 100 years of research.",
        "doi:10.1371/journal.pone.0047712, PMID 20190314, PLoS ONE 7 no. 11, p. 1136.",
        "TA 120/80 mmHg, EVA 5/10, paracétamol 1 g toutes les 6 heures depuis 3 jours.",
        "Tensión 120/80, dolor 5/10, metformina 850 mg cada 12 horas, diabetes tipo 2.",
        "PA 120/80, dolore 5/10, ramipril 5 mg, emoglobina 11,2 g/dl, da 3 giorni.",
        "血压120/80 mmHg，疼痛5/10分，2型糖尿病，阿司匹林100 mg，每日1次，服用3个月，2019年复查。",
    ],
)
def test_what_only_looks_like_an_identifier_stays(phi: Phi, text: str) -> None:
    assert replaced(phi, text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Patient de 93 ans, hospitalisé le 14 mars 2019 pour une dyspnée ; tél. 01 42 34 56 78.",
            "Patient de [AGE] ans, hospitalisé le [DATE] pour une dyspnée ; tél. [PHONE].",
        ),
        (
            "Ingresa el 14 de marzo de 2019 por dolor 5/10; DNI 12345678Z.",
            "Ingresa el [DATE] por dolor 5/10; DNI [SSN].",
        ),
        (
            "Ricoverato il 14 marzo 2019 con PA 120/80; Via Moreau 5, 00184 Roma.",
            "Ricoverato il [DATE] con PA 120/80; [ADDRESS].",
        ),
        ("患者于2019年3月14日入院，血压120/80 mmHg。", "患者于[DATE]入院，血压120/80 mmHg。"),
    ],
)
def test_sentences_of_other_languages_lose_only_what_identifies(phi: Phi, text: str, expected: str) -> None:
    assert replaced(phi, text) == expected


def test_dialogues_are_rewritten_and_found_identifiers_counted() -> None:
    phi = Phi(PhiSettings())
    messages = [
        {"role": "user", "content": "Seen 2019-03-14."},
        {"role": "assistant", "content": "Mail a@b.org."},
    ]
    batch = Batch([{"id": "1", "messages": messages}, {"id": "2", "text": "Nothing."}])
    assert phi(batch) == [None, None]
    assert [message["content"] for message in batch.rows[0]["messages"]] == ["Seen [DATE].", "Mail [EMAIL]."]
    assert phi.counts == {"date": 1, "email": 1}


def test_drop_names_the_first_kind_and_leaves_the_text() -> None:
    phi = Phi(PhiSettings(mode="drop"))
    batch = Batch([{"id": "1", "text": "a@b.org wrote on 2019-03-14"}, {"id": "2", "text": "Nothing."}])
    assert phi(batch) == ["phi_email", None]
    assert batch.rows[0]["text"].startswith("a@b.org")
    assert phi.counts == {"date": 1, "email": 1}


def test_fail_says_where_but_not_what() -> None:
    phi = Phi(PhiSettings(mode="fail"))
    with pytest.raises(ResidencyError, match=r"row n7: .*kind ssn.* at character 5") as raised:
        phi(Batch([{"id": "n6", "text": "Clean."}, {"id": "n7", "text": "SSN: 412-34-2981"}]))
    assert raised.value.code == Exit.GATE_REFUSED
    assert "412" not in str(raised.value)


def test_only_the_kinds_asked_for_are_looked_for() -> None:
    phi = Phi(PhiSettings(kinds=["email"]))
    assert replaced(phi, "a@b.org, 2019-03-14, 192.168.12.7") == "[EMAIL], 2019-03-14, 192.168.12.7"


def test_a_used_step_travels_to_other_processes() -> None:
    phi = Phi(PhiSettings())
    replaced(phi, "2019-03-14")
    again = pickle.loads(pickle.dumps(phi))
    assert again.counts == {"date": 1}
    assert replaced(again, "on 2019-03-14") == "on [DATE]"


def test_the_passport_says_what_was_looked_for() -> None:
    told = Phi(PhiSettings(kinds=["date"], mode="drop")).looked_for()
    assert told["kinds"] == ["date"] and told["names"] == "labels only" and told["mode"] == "drop"


def test_a_names_model_that_is_not_installed_is_told_with_its_cure() -> None:
    with pytest.raises(
        ResidencyError, match=r"names_model = no_such_model.*python -m spacy download no_such_model"
    ):
        Phi(PhiSettings(names_model="no_such_model"))


def test_a_names_model_finds_people_without_a_label(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    pipeline: Any = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Okafor"}])
    pipeline.to_disk(tmp_path / "model")
    phi = Phi(PhiSettings(names_model=str(tmp_path / "model")))
    assert replaced(phi, "Yesterday Okafor felt well.") == "Yesterday [NAME] felt well."
    assert phi.looked_for()["names"].startswith("spaCy model")


def test_overlapping_hits_are_one_of_the_longest_kind() -> None:
    hits = [Hit("phone", 4, 9), Hit("record", 0, 6), Hit("date", 12, 14)]
    assert joined(hits) == [Hit("record", 0, 9), Hit("date", 12, 14)]


def test_long_addresses_of_pages_are_found_to_their_end() -> None:
    page = "https://example.org/" + "a/b-c" * 100
    assert Finder(["url"]).find(f"See {page} for more.") == [Hit("url", 4, 4 + len(page))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from 16d1:b5ac:2e1c:5d3a:56a6:8b42:de28:123c.", "from [IP]."),
        ("pump 04:1d:83:0b:b7:ce", "pump [RECORD]"),
        ("ID 185057800608491, not 185057800608492", "ID [SSN], not 185057800608492"),
        ("at 52 Keys Burg\nBatesland, OR 27287", "at [ADDRESS]"),
        ("a rue de Cordier, 35286 Rennes", "a [ADDRESS]"),
    ],
)
def test_compact_forms_and_addresses_over_lines_are_found(phi: Phi, text: str, expected: str) -> None:
    assert replaced(phi, text) == expected
