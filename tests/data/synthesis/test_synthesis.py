"""Synthesis: instructions whose answers stand in the source, text about entities, and a local model as a writer."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from residency.artifact import read_manifest
from residency.data import corpus
from residency.data.settings import CorpusSettings
from residency.data.synthesis.prose import Terms, nouns, sections, sentences, stands_alone
from residency.data.synthesis.settings import TemplatesSettings
from residency.data.synthesis.templates import instructions
from residency.data.tokenization.tokenizer import train_tokenizer
from residency.errors import ResidencyError

LIVER = """The Liver
Introduction
The hepatocyte is a cell of the liver that produces bile, and every hepatocyte stands beside a small canal. \
Bile is a fluid that helps to digest fat in the small intestine. This fluid is yellow ( a). \
The liver also stores glycogen, and glycogen is broken down between meals ( b and c).
- Bile
Blood Supply of the Liver
Blood reaches the liver through the portal vein and through the hepatic artery in every healthy adult. \
The portal vein brings nutrients from the intestine to the liver. The hepatic artery brings oxygen from the heart. \
The sinusoid is a wide capillary that lets plasma touch the hepatocyte. Each sinusoid ends in the central vein.
"""
KIDNEY = """The Kidney
The nephron is a unit of the kidney that filters blood, and a kidney has a million of them. \
The glomerulus is a knot of capillaries that lets water pass into the nephron. Every nephron has one glomerulus. \
The hepatocyte and the nephron both clear drugs from the blood of a patient.
"""
PLAIN = re.sub(r"\s+", " ", re.sub(r" \([a-c and]*\)", "", LIVER + KIDNEY))
ITEM = {
    "id": "q1",
    "cluster": "q1",
    "prompt": "Which cell produces bile?",
    "options": ["Neuron", "Hepatocyte"],
    "answer": 1,
}


def text_row(id: str, text: str) -> dict[str, Any]:
    return {"id": id, "text": text}


def asked(template: str, row: dict[str, Any], seed: int = 0, per_document: int = 9) -> list[tuple[str, str]]:
    settings = TemplatesSettings(kind="templates", templates=[template], per_document=per_document)  # type: ignore[list-item]
    return [turn for _, turn in instructions(row, settings, Terms([LIVER, KIDNEY]), seed)]


def test_sections_and_sentences_are_told_apart() -> None:
    found = sections(LIVER)
    assert [section.heading for section in found] == ["The Liver", "Blood Supply of the Liver"]
    first = sentences(found[0].paragraphs[0])
    assert len(first) == 4 and first[2] == "This fluid is yellow."
    assert [stands_alone(sentence) for sentence in first] == [True, True, False, True]
    assert sentences("It was given by Dr. Kay, i.e. A. Kay. Then it stopped.")[-1] == "Then it stopped."
    assert {"portal vein", "sinusoid", "hepatic artery"} <= nouns(
        "the portal vein, a sinusoid. of the hepatic artery is"
    )
    assert "hepatic" not in nouns("through the hepatic artery is")


@pytest.mark.parametrize("template", ["define", "cloze", "title", "explain", "continue", "judge"])
def test_every_answer_stands_in_the_source(template: str) -> None:
    found = asked(template, text_row("liver", LIVER)) + asked(template, text_row("kidney", KIDNEY))
    assert found
    for question, answer in found:
        assert (
            question.strip()
            and re.sub(r"\s+", " ", answer.removeprefix("False. ").removesuffix("True.")) in PLAIN
        )
    assert found[: len(asked(template, text_row("liver", LIVER)))] == asked(
        template, text_row("liver", LIVER)
    )


def test_a_term_is_asked_for_by_its_definition() -> None:
    found = dict(asked("define", text_row("liver", LIVER)))
    terms = {re.findall(r"meant by (.*)\?|Define (.*)\.|term “(.*)”", question)[0] for question in found}
    assert {"".join(parts) for parts in terms} >= {"hepatocyte", "sinusoid"}
    assert all("____" not in question for question in found)


def test_a_blank_hides_the_term_and_a_false_statement_differs_in_one() -> None:
    for question, answer in asked("cloze", text_row("liver", LIVER)):
        assert question.count("____") == 1 and answer.lower() not in question.lower()
    tubules = (
        "The tubule takes up salt, and salt follows the tubule through every part of the kidney that is left."
    )
    row = text_row(
        "both",
        LIVER
        + KIDNEY.replace(
            "The glomerulus",
            f"{tubules} The glomerule of the capsule is small. "
            "Water enters the capsule and the glomerule of a nephron together with salt from the blood. The glomerulus",
        ),
    )
    judged = [turn for seed in range(6) for turn in asked("judge", row, seed=seed)]
    plain = re.sub(r"\s+", " ", re.sub(r" \([a-c and]*\)", "", row["text"]))
    said = [
        (re.sub(r"^(True or false|Is this statement correct|Judge [^.]*)[?.] ", "", asks), a)
        for asks, a in judged
    ]
    assert {answer.partition(".")[0] for _, answer in said} == {"True", "False"}
    for statement, answer in said:
        assert (answer == "True.") == (statement in plain)
        right = answer.removeprefix("False. ")
        assert answer == "True." or (right in plain and len(right.split()) == len(statement.split()))


def test_an_exam_item_becomes_a_dialogue() -> None:
    ((question, answer),) = asked("exam", ITEM)
    assert question.endswith("Which cell produces bile?\n\nA. Neuron\nB. Hepatocyte")
    assert (
        answer == "B. Hepatocyte"
        and asked("define", ITEM) == []
        and asked("exam", text_row("a", LIVER)) == []
    )


@pytest.fixture
def make_synthetic(attempt: Any) -> Any:
    def make(parents: dict[str, Path], synthesis: dict[str, Any], **settings: Any) -> Path:
        first = next(iter(parents))
        filled = CorpusSettings.model_validate(
            {"source": f"corpus:{first}", "synthesis": synthesis, "seed": 7, **settings}
        )
        roles = {name if name == "writer" else f"corpus:{name}": path for name, path in parents.items()}
        return corpus.run(attempt("corpus-made", "corpus", filled.model_dump(), roles))

    return make


@pytest.fixture
def books(make_corpus: Any) -> Path:
    rows = [text_row("liver", LIVER), text_row("kidney", KIDNEY)]
    made: Path = make_corpus("books", rows, licence="CC-BY-NC-4.0", languages=["en"], phi="none")
    return made


def test_instructions_are_a_corpus_with_a_passport(make_synthetic: Any, books: Path) -> None:
    made = make_synthetic({"books": books}, {"kind": "templates"})
    manifest, rows = read_manifest(made), list(corpus.rows(made, "train"))
    assert manifest.measured["schema"] == "messages" and len(rows) == manifest.measured["documents"] > 15
    assert all(row["synthetic"] is True and row["made_of"] in ("liver", "kidney") for row in rows)
    assert {row["method"] for row in rows} >= {"template define", "template judge"}
    assert len({row["id"] for row in rows}) == len(rows)
    (entry,) = manifest.passport
    assert entry["synthetic"] == "templates of books" and entry["source"] == "corpus:books"
    assert (entry["licence"], entry["consent"], entry["languages"], entry["phi"]) == (
        "CC-BY-NC-4.0", "non-commercial", ["en"], "none",
    )  # fmt: skip


def test_held_out_rows_and_their_document_stay_apart(make_synthetic: Any, make_corpus: Any) -> None:
    rows = [text_row(f"d{number}", LIVER) for number in range(8)]
    made = make_synthetic({"books": make_corpus("books", rows)}, {"kind": "templates"}, hold_out=0.4)
    sides = [{row["made_of"] for row in corpus.rows(made, part)} for part in ("train", "held_out")]
    assert all(sides) and not sides[0] & sides[1]


def test_text_is_gathered_about_terms(
    make_synthetic: Any, books: Path, make_corpus: Any, tmp_path: Path
) -> None:
    (tmp_path / "terms.txt").write_text("nephron\nPortal vein\nhepatocyte\nspleen\n")
    made = make_synthetic({"books": books}, {"kind": "entities", "terms": str(tmp_path / "terms.txt")})
    rows = {row["made_of"]: row["text"] for row in corpus.rows(made, "train")}
    assert set(rows) == {"nephron", "hepatocyte"}  # three sentences at least
    title, liver, kidney = rows["hepatocyte"].split("\n\n")
    assert title == "Hepatocyte" and "produces bile" in liver and "both clear drugs" in kidney
    exam = make_corpus("exam", [ITEM | {"prompt": "What does a nephron do in the spleen?"}])
    synthesis = {"kind": "entities", "like": "exam", "number": 1}
    made = make_synthetic({"books": books, "exam": exam}, synthesis)
    assert [row["made_of"] for row in corpus.rows(made, "train")] == ["nephron"]
    assert read_manifest(made).passport[0]["licence"] == "CC-BY-NC-4.0 AND CC0-1.0"
    with pytest.raises(ResidencyError, match=r"no file nowhere\.txt"):
        make_synthetic({"books": books}, {"kind": "entities", "terms": "nowhere.txt"})


def shout(prompts: list[str]) -> list[str]:
    return [prompt.upper() for prompt in prompts]


def mumble(prompts: list[str]) -> list[str]:
    return prompts[1:]


def test_a_function_writes(make_synthetic: Any, books: Path) -> None:
    ask = {"kind": "generate", "prompt": "Say more on {title}.", "batch_size": 1}
    made = make_synthetic({"books": books}, ask | {"call": f"{__name__}:shout"})
    first = next(corpus.rows(made, "train"))
    assert [message["content"] for message in first["messages"]] == [
        "Say more on The Liver.",
        "SAY MORE ON THE LIVER.",
    ]
    assert read_manifest(made).passport[0]["synthetic"] == f"generated by {__name__}:shout of books"
    with pytest.raises(ResidencyError, match="1 prompts gave list of 0"):
        make_synthetic({"books": books}, ask | {"call": f"{__name__}:mumble"})
    with pytest.raises(ResidencyError, match="Give module:function"):
        make_synthetic({"books": books}, ask | {"call": "nowhere:shout"})


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    directory = tmp_path_factory.mktemp("writer")
    tokenizer = train_tokenizer(iter([LIVER, KIDNEY]), 400, 128)
    tokenizer.save_pretrained(directory)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **shape)
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_local_model_writes(make_synthetic: Any, books: Path, writer: Path, temperature: float) -> None:
    ask = {"kind": "generate", "model": str(writer), "prompt": "{text}", "form": "text", "max_tokens": 12}
    parents = {"books": books, "writer": writer}
    texts = [
        [
            row["text"]
            for row in corpus.rows(make_synthetic(parents, ask | {"temperature": temperature}), "train")
        ]
        for _ in range(2)
    ]
    assert texts[0] == texts[1] and len(texts[0]) == 2 and all(texts[0])


def test_a_model_brings_its_own_passport(make_synthetic: Any, books: Path, writer: Path) -> None:
    manifest = read_manifest(books).model_dump()
    manifest["passport"] = [
        {"corpus": "notes", "licence": "MIT", "consent": "credentialed", "phi": "possible"}
    ]
    (writer / "manifest.json").write_text(json.dumps(manifest))
    try:
        ask = {"kind": "generate", "model": str(writer), "prompt": "{title}", "max_tokens": 4}
        made = make_synthetic({"books": books, "writer": writer}, ask)
    finally:
        (writer / "manifest.json").unlink()
    (entry,) = read_manifest(made).passport
    assert (entry["consent"], entry["phi"], entry["licence"]) == (
        "credentialed",
        "possible",
        "CC-BY-NC-4.0 AND MIT",
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "corpus:books"}, "need each other"),
        ({"source": "world:general", "synthesis": {"kind": "templates"}}, "need each other"),
        (
            {"source": "corpus:books", "synthesis": {"kind": "templates"}, "licence": "MIT"},
            "follow from the corpus",
        ),
        ({"source": "corpus:a", "synthesis": {"kind": "generate", "prompt": "{text}"}}, "give either model"),
        (
            {"source": "corpus:a", "synthesis": {"kind": "generate", "model": "m", "prompt": "x"}},
            "about nothing",
        ),
        (
            {"source": "corpus:a", "synthesis": {"kind": "entities", "terms": "t", "like": "b"}},
            "give either terms",
        ),
    ],
)
def test_settings_that_contradict(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CorpusSettings.model_validate(settings)


def test_other_rows_are_refused(make_synthetic: Any, make_corpus: Any) -> None:
    chat = make_corpus(
        "chat", [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    )
    with pytest.raises(
        ResidencyError, match="holds rows of kind messages: this synthesis reads text or choice"
    ):
        make_synthetic({"chat": chat}, {"kind": "templates"})


def test_a_textbook_gives_every_template(mirror: Path) -> None:
    path = mirror / "openstax/anatomy-physiology/text/train.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:60]]
    terms = Terms(row["text"] for row in rows)
    settings = TemplatesSettings(kind="templates")
    made = [template for row in rows for template, _ in instructions(row, settings, terms, 0)]
    counts = Counter(made)
    assert set(counts) == {"define", "cloze", "title", "explain", "continue", "judge"}
    assert min(counts.values()) >= 60
