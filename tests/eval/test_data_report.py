"""The page on data: its numbers are the manifests', it stands alone, and says nothing of what is not there."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from residency import cli
from residency.artifact import Manifest, RunPaths, identity_of, read_manifest, write_json
from residency.errors import ResidencyError
from residency.eval.pages import data_pictures, data_report
from residency.eval.pages.data_report_run import read

Add = Callable[..., Path]
EVIL = "<script>alert('1')"
TEXTS = ["x" * 40, "y" * 400, "z" * 400, "w" * 9000]
STEPS: list[dict[str, Any]] = [
    {"step": "read", "documents": 1005, "characters": 150_000},
    {
        "step": "1-paragraphs", "documents": 1004, "characters": 140_000,
        "dropped": {"shared_paragraphs": 1}, "dropped_characters": {"shared_paragraphs": 300}, "counts": {},
    },
    {
        "step": "2-duplicates", "documents": 996, "characters": 138_000, "dropped": {"duplicate": 8},
        "dropped_characters": {"duplicate": 2000}, "counts": {"clusters_of_2": 3, "clusters_of_6": 1},
    },
    {
        "step": "3-decontaminate", "documents": 994, "characters": 137_500,
        "dropped": {"contaminated_exam": 2}, "dropped_characters": {"contaminated_exam": 500},
        "counts": {"exam": 2},
    },
]  # fmt: skip
SETTINGS = {
    "steps": [{"kind": "paragraphs"}, {"kind": "duplicates"}, {"kind": "decontaminate", "mode": "drop"}]
}
DROPPED: list[dict[str, str]] = [
    {"id": "notes:7", "step": "1-paragraphs", "reason": "shared_paragraphs", "text": "Only a disclaimer."},
    {"id": "notes:9", "step": "2-duplicates", "reason": "duplicate", "text": "Said twice."},
    {
        "id": "notes:12",
        "step": "3-decontaminate",
        "reason": "contaminated_exam",
        "text": "Bile is made by it.",
    },
]
HITS: list[dict[str, Any]] = [
    {
        "task": "exam",
        "item": "q1",
        "document": "notes:12",
        "coverage": 0.75,
        "sentence": "Bile is made by it.",
    },
    {"task": "exam", "item": "q2", "document": "notes:12", "coverage": 0.5, "sentence": "The liver is red."},
    {"task": "exam", "item": "q1", "document": "notes:15", "coverage": 0.6, "sentence": "It makes bile."},
]


class Made:
    """A run's directory, filled by hand."""

    def __init__(self, root: Path) -> None:
        self.paths = RunPaths(root / "runs" / "clinic")
        self.stages: list[dict[str, Any]] = []

    @property
    def graph(self) -> dict[str, Any]:
        return {"name": "clinic", "stages": self.stages}

    def page(self) -> str:
        return data_report.write(self.paths, self.graph).read_text("utf-8")

    def stage(
        self, name: str, kind: str, parents: dict[str, str] | None = None, serves: str | None = None
    ) -> Path:
        """Name a stage of the graph; returns where its artifact would stand."""
        identity = identity_of(stage=name)
        self.stages.append(
            {"name": name, "kind": kind, "identity": identity, "parents": parents or {}, "for": serves}
        )
        return self.paths.artifact(name, identity)

    def finish(
        self, artifact: Path, kind: Any, files: dict[str, list[Any]] | None = None, **fields: Any
    ) -> None:
        """Write the artifact of the stage named last."""
        artifact.mkdir(parents=True)
        for name, rows in (files or {}).items():
            (artifact / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        stage = self.stages[-1]
        fields = {"settings": {}, "measured": {}, **fields}
        manifest = Manifest(
            kind=kind, stage=stage["name"], stage_kind=stage["kind"], identity=stage["identity"],
            parents={}, **fields,
        )  # fmt: skip
        write_json(artifact / "manifest.json", manifest.model_dump())

    def corpus(
        self,
        name: str,
        texts: list[str],
        *,
        asides: dict[str, list[Any]] | None = None,
        measured: dict[str, Any] | None = None,
        entry: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Path:
        """A finished corpus of running text."""
        rows = [{"id": f"{'ab'[place % 2]}:{place}", "text": text} for place, text in enumerate(texts)]
        told = {
            "schema": "text",
            "documents": len(rows),
            "held_out_documents": 0,
            "bytes": 5000,
            "dropped": {},
        }
        passport = {
            "corpus": name, "source": f"clinic/{name}", "licence": "CC-BY-4.0", "consent": "open",
            "languages": ["en"], "phi": "none", "synthetic": None, "documents": len(rows),
        }  # fmt: skip
        artifact = self.stage(name if name.startswith("task-") else f"corpus-{name}", "corpus")
        self.finish(
            artifact, "corpus", {"train.jsonl": rows, **(asides or {})},
            measured=told | (measured or {}), passport=[passport | (entry or {})], **fields,
        )  # fmt: skip
        return artifact

    def curated(self, name: str = "notes", **changed: Any) -> Path:
        """A corpus behind three steps, searched for the items of the task `exam`."""
        exam = self.stage("task-exam", "corpus")
        items = [{"id": "q1", "prompt": "Which organ makes bile?", "options": ["liver", "skin"], "answer": 0}]
        entry = {"corpus": "task-exam", "source": "clinic/exam", "licence": "CC0-1.0", "documents": 1}
        told = {"schema": "choice", "documents": 1, "held_out_documents": 0, "bytes": 9, "dropped": {}}
        self.finish(exam, "corpus", {"train.jsonl": items}, passport=[entry], measured=told)
        fields: dict[str, Any] = {
            "asides": {"dropped.jsonl": DROPPED, "contamination.jsonl": HITS},
            "measured": {"held_out_documents": 990, "dropped": {"not_json": 5}, "curation": STEPS},
            "settings": SETTINGS,
            "parent_paths": {"exam:exam": f"../{exam.name}"},
        } | changed  # fmt: skip
        return self.corpus(name, TEXTS, **fields)

    def mixture(self, stage: str, parts: dict[str, tuple[float, float]], **measured: Any) -> None:
        """A training stage whose tokens are made; corpus to planned and realised share."""
        artifact = self.stage(
            f"{stage}-tokens", "tokens", {f"corpus:{name}": f"corpus-{name}" for name in parts}, stage
        )
        receipt = {
            name: {
                "planned": planned, "realised": realised, "tokens": round(20_000 * realised), "documents": 4,
                "epochs": 2.0, "truncated": 1, "truncated_tokens": 123,
            }
            for name, (planned, realised) in parts.items()
        }  # fmt: skip
        told = {
            "rows": 157, "tokens": 20_000, "loss_tokens": 19_876, "split_documents": 3, "longest_document": 777,
            "truncated_dialogues": len(parts), "max_length": 128, "fill": 0.9953, "mixture": receipt,
        }  # fmt: skip
        self.finish(artifact, "tokens", measured=told | measured)
        self.stage(stage, "cpt", {"tokens": f"{stage}-tokens"})


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def text_of(html: str) -> str:
    """What a reader sees: tags and style left out, space collapsed."""
    bare = re.sub(r"<style>.*?</style>|<title>.*?</title>|<[^>]+>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", bare.replace("\u202f", " "))


def sections(html: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', html)


def test_the_headline_is_computed(made: Made) -> None:
    made.curated()
    made.corpus("general", ["a" * 100])
    made.mixture("cpt", {"notes": (0.8, 0.80123), "general": (0.2, 0.19877)})
    text = text_of(made.page())
    assert (
        "1,011 documents from 2 sources went in; 995 stayed (98.4 %). "
        "The most frequent reason was duplicate (8). The mixture is within 0.13 % of its plan. "
        "2 documents hold exam items: 2 dropped."
    ) in re.sub(r" (?=[.,;])", "", text)
    assert "Not searched for exam items: general." in text


def test_every_number_of_the_manifests_stands_on_the_page(made: Made) -> None:
    made.curated()
    made.mixture("cpt", {"notes": (1.0, 1.0)})
    html = made.page()
    text = text_of(html)
    assert sections(html) == [
        "summary", "funnel", "lengths", "mixture", "duplicates", "contamination", "passport", "dropped",
    ]  # fmt: skip
    funnel = text[text.index("Left out here") : text.index("Tokens are estimated")]
    for step in STEPS:
        assert f"{step['step']} {step['documents']:,} {step['characters']:,}" in funnel, step["step"]
    for told in ("source 1,010", "not json 5", "shared paragraphs 1", "9,700 characters cut", "duplicate 8",
                 "contaminated exam 2", "training 4 9,840", "held out 990"):  # fmt: skip
        assert told in funnel, told
    for told in ("20,000", "19,876", "rows of 128 tokens 157", "99.53 %", "100.00 % of 100.00 %", "2.00", "777",
                 "documents split over rows 3", "dialogues cut to a row 1", "tokens cut off them 123"):  # fmt: skip
        assert told in text, told
    assert "8 dropped from 4 clusters; the largest has 6 documents" in text
    assert "2 documents 3 clusters" in text and "5 to 9 documents 1 cluster" in text
    assert "median 400 characters · longest 9,000" in text
    assert "Which organ makes bile? q1 Bile is made by it. notes · notes:12 75 % dropped" in text
    assert "3 hits: 2 items in 2 documents" in text
    assert "notes clinic/ notes CC-BY-4.0 open en none people 4 cpt" in text


def test_tokens_are_estimated_from_the_stage_that_took_most(made: Made) -> None:
    made.curated()
    made.mixture("cpt", {"notes": (1.0, 1.0)})
    run = read(made.paths, made.graph)
    # 4 documents of 9,840 characters, twice; of 123 tokens that one of them lost, twice as many.
    rate, stage = run.tokens_per_character("notes") or (0.0, "")
    assert rate == pytest.approx((20_000 + 2 * 123) / (2 * 9840))
    assert stage == "cpt"
    assert "cpt measured 1.029 tokens a character" in text_of(made.page())


def test_without_steps_and_mixtures_there_are_no_empty_sections(made: Made) -> None:
    made.corpus("general", TEXTS)
    html = made.page()
    assert sections(html) == ["summary", "funnel", "lengths", "passport"]
    assert re.findall(r'href="#(\w+)"', html) == sections(html)
    text = text_of(html)
    assert "4 documents from 1 source went in; 4 stayed (100.0 %)" in re.sub(r" (?=[.,;])", "", text)
    assert "The most frequent reason" not in text and "mixture" not in text
    assert "read 4 9,840" in text and "training 4 9,840" in text


def test_a_search_without_hits_says_so(made: Made) -> None:
    made.curated(asides={"dropped.jsonl": DROPPED})
    text = text_of(made.page())
    assert "No document holds an exam item." in text
    assert "Searched for, and none found, in notes." in text


def test_preference_pairs_have_no_mixture(made: Made) -> None:
    made.corpus("pairs", TEXTS, settings={"limit": 4, "steps": []})
    artifact = made.stage("align-tokens", "pairs", {"corpus:pairs": "corpus-pairs"}, "align")
    made.finish(
        artifact, "tokens", measured={"pairs": 481, "tokens": 61_440, "longest": 321, "max_length": 512}
    )
    made.stage("align", "preference", {"tokens": "align-tokens"})
    text = text_of(made.page())
    assert "pairs 481 tokens 61,440 longest prompt and reply, tokens 321" in text
    assert "taken 4 9,840" in text
    assert "The mixture is" not in text


def test_corpora_of_reward_and_reinforcement_are_used_too(made: Made) -> None:
    for name, kind, serves in (("judged", "replies", "ranker"), ("asked", "prompts", "rl")):
        made.corpus(name, TEXTS)
        made.stage(f"{serves}-tokens", kind, {f"corpus:{name}": f"corpus-{name}"}, serves)
    assert read(made.paths, made.graph).uses == {"judged": ["ranker"], "asked": ["rl"]}


def test_duplicates_were_looked_for_among_what_earlier_steps_left(made: Made) -> None:
    made.curated()
    notes = read(made.paths, made.graph).corpora[0]
    assert notes.compared == 1004


def test_what_lies_behind_the_limit_is_counted(made: Made) -> None:
    made.curated(measured={"held_out_documents": 90, "dropped": {}, "curation": STEPS})
    text = text_of(made.page())
    assert "over the limit 900" in text
    assert "The most frequent reason was over the limit (900)" in re.sub(r" (?=[.,;])", "", text)


def test_flagged_documents_are_told_apart(made: Made) -> None:
    made.curated(settings={"steps": [*SETTINGS["steps"][:2], {"kind": "decontaminate", "mode": "flag"}]})
    assert "2 only flagged" in text_of(made.page())


def test_one_file_that_stands_alone(made: Made) -> None:
    made.curated()
    made.mixture("cpt", {"notes": (1.0, 1.0)})
    html = made.page()
    assert data_report.write(made.paths, made.graph) == made.paths.root / "data.html"
    assert not re.search(r"https?://|<script|<link|<img|@import|url\(|src=", html)
    assert [path.name for path in made.paths.root.glob(".data*")] == []


def test_everything_is_escaped(made: Made) -> None:
    dropped = [row | {"id": EVIL, "text": EVIL} for row in DROPPED]
    hits = [row | {"item": EVIL, "document": EVIL, "sentence": EVIL} for row in HITS]
    made.curated(
        name=EVIL,
        asides={"dropped.jsonl": dropped, "contamination.jsonl": hits},
        entry={"source": EVIL, "licence": EVIL, "languages": [EVIL], "synthetic": EVIL},
        measured={"dropped": {EVIL: 5}, "curation": STEPS},
    )
    made.mixture("cpt", {EVIL: (1.0, 1.0)})
    html = made.page()
    assert "<script" not in html and "alert('1')" not in html
    assert html.count("&lt;script&gt;") > 20


def test_text_that_must_not_leave_is_not_shown(made: Made) -> None:
    told = text_of_page(made, entry={"phi": "possible"})
    assert "its passport keeps it here (consent open, patients’ identifiers possible)" in told
    later = {
        "step": "4-phi",
        "documents": 994,
        "characters": 137_000,
        "dropped": {},
        "dropped_characters": {},
    }
    curation = [*STEPS, later | {"counts": {}}]
    told = text_of_page(Made(made.paths.root), measured={"curation": curation}, entry={"phi": "scrubbed"})
    assert "patients’ identifiers had not been removed from it yet" in told
    told = text_of_page(Made(made.paths.root / "open"))
    assert "Said twice." in told


def text_of_page(made: Made, **changed: Any) -> str:
    """The page of a curated corpus, from which no dropped text may be read unless nothing was changed."""
    made.curated(**changed)
    text = text_of(made.page())
    if changed:
        assert not any(row["text"] in text for row in DROPPED)
        assert not any(row["sentence"] in text for row in HITS)
    return text


def test_half_a_surrogate_pair_can_be_shown(made: Made) -> None:
    made.curated(asides={"dropped.jsonl": [DROPPED[1] | {"text": "half \ud83d a pair"}]})
    assert "half ? a pair" in made.page()


def test_only_artifacts_of_the_plan_count(made: Made) -> None:
    made.corpus("general", TEXTS)
    artifact = made.corpus("notes", ["n" * 77])
    artifact.rename(artifact.with_name("corpus-notes-00000000"))
    text = text_of(made.page())
    assert "4 documents from 1 source" in text
    assert "Not finished, and not on this page: corpus-notes." in text


def test_nothing_finished_is_the_users_error(made: Made) -> None:
    made.stage("corpus-notes", "corpus")
    with pytest.raises(ResidencyError, match="no corpus of clinic is finished"):
        made.page()


def test_files_are_told_by_the_rows_ids(made: Made) -> None:
    made.corpus("general", TEXTS)
    run = read(made.paths, made.graph)
    assert run.corpora[0].rows.files == {"a": 2, "b": 2}
    assert "general by file share of the documents to train on a 50.0 % 2 documents" in text_of(made.page())


def test_bins_hold_every_length_once() -> None:
    lengths = Counter(dict.fromkeys(range(1, 3000), 1))
    span = data_pictures.span_of([lengths])
    for number in range(span[0], span[1] + 1):
        first, last = data_pictures.edges(number)
        inside = [length for length in range(1, 3000) if data_pictures.bin_of(length) == number]
        assert not inside or (inside[0], inside[-1]) == (first, min(last, 2999))
    drawn = data_pictures.histogram(lengths, span, "all")
    told = re.findall(r"characters: ([\d,]+)</title>", drawn)
    assert sum(int(number.replace(",", "")) for number in told) == 2999


def test_the_band_of_a_drift_is_the_limit() -> None:
    near, far = (data_pictures.drift(0.5, realised, 0.02, "") for realised in (0.504, 0.52))
    assert "equivalent" in near and "worse" in far
    assert data_pictures.sizes({2: 3, 7: 1, 9: 2, 5000: 1}) == [
        ("2", 3),
        ("5 to 9", 3),
        ("1,000 and more", 1),
    ]


def test_the_command_writes_the_page_of_a_real_corpus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from residency.artifact import open_attempt
    from residency.recipes.chain import run_in_process
    from residency.recipes.plan import Plan
    from residency.recipes.schema import load

    texts = [" ".join(f"word{(place * 37 + word * 11) % 997}" for word in range(60)) for place in range(9)]
    rows = [{"text": text} for text in [*texts, texts[0], texts[0], texts[4]]]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "clinic.yaml"
    recipe.write_text(
        "name: clinic\n"
        "base: {scratch: {layers: 1, width: 32, vocabulary: 300, context: 64, tokenizer: [notes]}}\n"
        f"corpora: {{notes: {{source: {tmp_path}/notes.jsonl, licence: CC0-1.0, steps: [{{kind: duplicates}}]}}}}\n"
        "stages: {cpt: {kind: cpt, from: base, mixture: {notes: 1}, tokens: 1k, max_length: 64}}\n"
    )
    plan = Plan(load(recipe), RunPaths(tmp_path / "runs" / "clinic"))
    corpus = plan.stages["corpus-notes"]
    run_in_process(open_attempt(plan.paths, plan.stage_file(corpus)))
    cli.app(["data", "report", str(recipe), "--runs", str(tmp_path / "runs")], standalone_mode=False)
    assert capsys.readouterr().out.strip() == str(plan.paths.data_report)
    (step,) = read_manifest(corpus.artifact).measured["curation"][1:]
    assert step["counts"] == {"clusters_of_2": 1, "clusters_of_3": 1}
    text = text_of(plan.paths.data_report.read_text("utf-8"))
    assert "12 documents from 1 source went in" in text
    assert f"1-duplicates {step['documents']} {step['characters']:,} duplicate 3" in text
    assert "3 dropped from 2 clusters; the largest has 3 documents" in text
    assert "Not finished, and not on this page: cpt-tokens." in text
    with pytest.raises(ResidencyError, match="no run in"):
        cli.app(["data", "report", str(recipe), "--runs", str(tmp_path / "none")], standalone_mode=False)
