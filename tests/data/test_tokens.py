from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from residency.artifact import read_manifest
from residency.data import tokens
from residency.data.mixture.shards import PackedRows
from residency.data.settings import TokensSettings
from residency.data.tokenization.tokenizer import ROLES, load_tokenizer, template_of, tokenizer_digest
from residency.errors import ResidencyError

TEXTS = [{"id": f"d{n}", "text": f"Liver {n}. " + "Bile helps to digest fat. " * (n % 7)} for n in range(60)]
DIALOGUES: list[dict[str, Any]] = [
    {
        "id": f"c{n}",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": f"What is {n}?"},
            {"role": "assistant", "content": f"It is {n} é."},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes."},
        ],
    }
    for n in range(40)
]


@pytest.fixture
def make_tokens(attempt: Any, base: Path) -> Any:
    def make(corpora: dict[str, Path], mixture: dict[str, Any] | None = None, **settings: Any) -> Path:
        shares = mixture or dict.fromkeys(corpora, 1 / len(corpora))
        filled = TokensSettings.model_validate({"mixture": shares, "max_length": 64, **settings})
        parents = {f"corpus:{name}": corpus for name, corpus in corpora.items()}
        return tokens.run(attempt("tokens", "tokens", filled.model_dump(), {"model": base, **parents}))

    return make


def segments_of(artifact: Path) -> list[tuple[list[int], list[int]]]:
    """Ids and labels of every segment, found by where positions restart; padding left out."""
    rows = PackedRows(artifact)
    found = []
    for index in range(len(rows)):
        row = rows[index]
        cuts = [*np.flatnonzero(row["position_ids"] == 0).tolist(), rows.max_length]
        for start, end in pairwise(cuts):
            found.append((row["input_ids"][start:end].tolist(), row["labels"][start:end].tolist()))
    return found


def test_text_is_kept_whole_and_every_token_predicted_once(
    make_tokens: Any, make_corpus: Any, base: Path
) -> None:
    made = make_tokens({"notes": make_corpus("notes", TEXTS)}, epochs=1.0, max_length=20)
    measured, tokenizer = read_manifest(made).measured, load_tokenizer(base)
    wanted = [
        [
            tokenizer.bos_token_id,
            *tokenizer(row["text"], add_special_tokens=False)["input_ids"],
            tokenizer.eos_token_id,
        ]
        for row in TEXTS
    ]
    predicted = sorted(label for _, labels in segments_of(made) for label in labels if label >= 0)
    assert predicted == sorted(id for document in wanted for id in document[1:])
    assert measured["tokens"] == sum(map(len, wanted))
    assert measured["loss_tokens"] == len(predicted)
    assert measured["split_documents"] == sum(len(document) > 20 for document in wanted) > 0
    assert measured["longest_document"] == max(map(len, wanted))
    assert measured["tokenizer_digest"] == tokenizer_digest(base)
    assert PackedRows(made).tokens == round(measured["fill"] * measured["rows"] * 20)


def test_only_the_assistant_and_its_stop_token_carry_loss(
    make_tokens: Any, make_corpus: Any, base: Path
) -> None:
    made = make_tokens({"chat": make_corpus("chat", DIALOGUES)}, epochs=1.0)
    tokenizer = load_tokenizer(base)
    texts = {tokenizer.apply_chat_template(row["messages"], tokenize=False): row for row in DIALOGUES}
    found = [(tokenizer.decode(ids), labels) for ids, labels in segments_of(made)]
    seen = {text: labels for text, labels in found if text in texts}
    assert len(seen) == len(DIALOGUES)
    for text, labels in seen.items():
        trained = tokenizer.decode([label for label in labels if label >= 0])
        assert trained == "".join(
            m["content"] + "<|end|>" for m in texts[text]["messages"] if m["role"] == "assistant"
        )


def test_special_tokens_spelt_in_a_text_are_plain_characters(
    make_tokens: Any, make_corpus: Any, base: Path
) -> None:
    made = make_tokens({"notes": make_corpus("notes", [{"text": "a <|end|> b"}])}, epochs=1.0)
    ((ids, _), *_) = segments_of(made)
    assert load_tokenizer(base).convert_tokens_to_ids("<|end|>") not in ids


def test_budget_shares_and_receipt(make_tokens: Any, make_corpus: Any) -> None:
    corpora = {"notes": make_corpus("notes", TEXTS, licence="MIT"), "chat": make_corpus("chat", DIALOGUES)}
    manifest = read_manifest(make_tokens(corpora, {"notes": 0.75, "chat": 0.25}, tokens=20_000))
    measured = manifest.measured
    assert measured["mixture"]["notes"]["tokens"] == 15_000
    assert measured["tokens"] == pytest.approx(20_000, abs=measured["longest_document"] / 2)
    for name, planned in (("notes", 0.75), ("chat", 0.25)):
        receipt = measured["mixture"][name]
        assert receipt["planned"] == planned
        assert receipt["realised"] == pytest.approx(planned, abs=0.005)
        assert measured["epochs"][name] == receipt["epochs"] > 1
    assert measured["mixture"]["notes"]["documents"] == len(TEXTS)
    assert {entry["corpus"]: entry["licence"] for entry in manifest.passport} == {
        "notes": "MIT",
        "chat": "CC0-1.0",
    }
    assert [entry["share"] for entry in manifest.passport] == [
        part["realised"] for part in measured["mixture"].values()
    ]


def test_a_small_budget_reads_only_what_it_needs(make_tokens: Any, make_corpus: Any) -> None:
    made = make_tokens({"notes": make_corpus("notes", TEXTS)}, tokens=100)
    measured = read_manifest(made).measured
    assert measured["documents"] < 20
    assert measured["tokens"] == 100
    # Of the last document, a part is read.
    assert 200 <= (made / "tokens.bin").stat().st_size < 200 + 2 * measured["longest_document"]


def test_epochs_count_passes_over_the_first_corpus(make_tokens: Any, make_corpus: Any) -> None:
    corpora = {"chat": make_corpus("chat", DIALOGUES), "notes": make_corpus("notes", TEXTS)}
    made = make_tokens(corpora, {"chat": 0.8, "notes": 0.2}, epochs=3.0)
    measured = read_manifest(made).measured
    assert measured["epochs"]["chat"] == 3.0
    assert measured["mixture"]["notes"]["realised"] == pytest.approx(0.2, abs=1e-4)
    # A document of several epochs is stored once.
    assert (made / "tokens.bin").stat().st_size < 2 * measured["tokens"]


def test_epochs_of_one_document_never_share_a_row(make_tokens: Any, make_corpus: Any) -> None:
    made = make_tokens({"chat": make_corpus("chat", DIALOGUES)}, epochs=4.0)
    segments, rows = np.load(made / "segments.npy"), np.load(made / "rows.npy")
    assert len(segments) == 4 * len(DIALOGUES)
    for start, end in pairwise(rows):
        assert len(np.unique(segments[start:end, 0])) == end - start


def test_order_follows_the_seed(make_tokens: Any, make_corpus: Any) -> None:
    corpora = {"notes": make_corpus("notes", TEXTS)}
    first, other = (segments_of(make_tokens(corpora, tokens=3_000, seed=seed)) for seed in (1, 2))
    # Another template changes the identity and, for running text, nothing else.
    again = segments_of(make_tokens(corpora, tokens=3_000, seed=1, chat_template="x"))
    assert first == again != other


def test_refusals(make_tokens: Any, make_corpus: Any) -> None:
    chat = make_corpus("chat", DIALOGUES)
    with pytest.raises(
        ResidencyError,
        match=r"corpus chat: 40 of 40 dialogues are longer than max_length = 16; the longest, c\d+",
    ):
        make_tokens({"chat": chat}, epochs=1.0, max_length=16)
    exam = make_corpus("exam", [{"question": "Q", "options": ["a", "b"], "answer": 0}])
    with pytest.raises(ResidencyError, match="corpus exam holds rows of kind choice"):
        make_tokens({"exam": exam}, epochs=1.0)


def test_templates(attempt: Any, make_corpus: Any, base: Path, tmp_path: Path) -> None:
    chat = make_corpus("chat", DIALOGUES)
    bare = tmp_path / "bare"
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = None
    tokenizer.add_special_tokens({"extra_special_tokens": [*ROLES, "<|im_start|>", "<|im_end|>"]})
    tokenizer.save_pretrained(bare)
    (bare / "config.json").write_text("{}")

    def run(template: str | None) -> Path:
        settings = TokensSettings.model_validate(
            {"mixture": {"chat": 1.0}, "epochs": 1.0, "max_length": 256, "chat_template": template}
        )
        return tokens.run(
            attempt("tokens", "tokens", settings.model_dump(), {"model": bare, "corpus:chat": chat})
        )

    with pytest.raises(ResidencyError, match=r"bare has no chat template\. Set chat_template"):
        run(None)
    with pytest.raises(ResidencyError, match="does not mark what the assistant says"):
        run("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert read_manifest(run(template_of(base))).measured["loss_tokens"] > 0
    known = pytest.importorskip("trl.chat_template_utils").qwen2_5_chat_template
    found = [labels for _, labels in segments_of(run(known))]
    trained = "".join(tokenizer.decode([label for label in labels if label >= 0]) for labels in found)
    assert trained.count("Yes.<|im_end|>") == len(DIALOGUES)
    assert "Sure?" not in trained
