"""Entity matching against seqeval and nervaluate, and by hand."""

from __future__ import annotations

import random

import pytest
from nervaluate.evaluator import Evaluator
from seqeval.metrics import f1_score, precision_score, recall_score

from residency.errors import ResidencyError
from residency.eval.metrics import statistics, value
from residency.eval.metrics.spans import listed_mentions, tagged_mentions

SENTENCE = "Type 2 diabetes and gout were treated with metformin, not insulin."
ITEM = {
    "id": "1",
    "facts": {
        "text": SENTENCE,
        "spans": [[0, 15, "Disease"], [20, 24, "Disease"], [43, 52, "Drug"], [58, 65, "Drug"]],
    },
}
Span = tuple[int, int, str]


def drawn(random_: random.Random, length: int) -> list[Span]:
    """Spans over words that neither touch nor overlap."""
    spans, at = [], 0
    while at < length - 1:
        size = random_.randint(1, 2)
        if random_.random() < 0.5:
            spans.append((at, min(at + size, length), random_.choice(["disease", "drug"])))
        at += size + 1
    return spans


def tags(spans: list[Span], length: int) -> list[str]:
    found = ["O"] * length
    for start, end, kind in spans:
        found[start:end] = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    return found


def item_of(spans: list[Span], length: int) -> dict[str, object]:
    """Words w0 w1 ... of four characters and a space."""
    characters = [[5 * start, 5 * end - 1, kind] for start, end, kind in spans]
    return {"id": "1", "facts": {"text": " ".join(f"w{n:03}" for n in range(length)), "spans": characters}}


def written(spans: list[Span], length: int) -> str:
    words = [f"w{n:03}" for n in range(length)]
    for start, end, kind in spans:
        words[start] = f"<{kind}>{words[start]}"
        words[end - 1] += f"</{kind}>"
    return " ".join(words)


def test_tagged_is_seqevals_and_nervaluates() -> None:
    random_ = random.Random(0)
    length = 14
    gold = [drawn(random_, length) for _ in range(60)]
    said = [[span for span in drawn(random_, length) + each if random_.random() < 0.6] for each in gold]
    said = [
        [s for n, s in enumerate(each) if not any(s[0] < o[1] + 1 and o[0] < s[1] + 1 for o in each[:n])]
        for each in said
    ]
    rows = [
        statistics("tagged-f1", written(ours, length), item_of(theirs, length))
        for ours, theirs in zip(said, gold, strict=True)
    ]
    true, predicted = ([tags(each, length) for each in spans] for spans in (gold, said))
    assert value("tagged-f1", rows) == pytest.approx(f1_score(true, predicted))
    assert value("tagged-precision", rows) == pytest.approx(precision_score(true, predicted))
    assert value("tagged-recall", rows) == pytest.approx(recall_score(true, predicted))
    theirs = Evaluator(true, predicted, tags=["disease", "drug"], loader="list").evaluate()["overall"]
    assert value("tagged-f1", rows) == pytest.approx(theirs["strict"].f1)
    assert value("tagged-f1-relaxed", rows) == pytest.approx(theirs["ent_type"].f1)


def test_listed_mentions_by_hand() -> None:
    ours = listed_mentions("Disease: diabetes\nDisease: gout\nDrug: Metformin\nDrug: aspirin", ITEM)
    assert ours == {
        "strict": 2.0,  # gout, metformin
        "relaxed": 3.0,  # and diabetes, of type 2 diabetes
        "predicted": 4.0,
        "gold": 4.0,
        "token": 3.0,
        "token_predicted": 4.0,
        "token_gold": 6.0,
    }
    rows = [{**ours, "items": 1.0}]
    assert value("span-f1", rows) == pytest.approx(0.5)
    assert value("span-f1-relaxed", rows) == pytest.approx(0.75)
    assert value("span-f1-token", rows) == pytest.approx(0.6)


def test_wrong_type_does_not_match() -> None:
    assert listed_mentions("gout (Drug)\nmetformin", ITEM)["relaxed"] == 0.0


def test_one_type_needs_no_name() -> None:
    item = {"id": "1", "facts": {"text": "gout and asthma", "spans": [[0, 4, "Disease"], [9, 15, "Disease"]]}}
    assert listed_mentions("gout, asthma, gout", item)["strict"] == 2.0
    assert listed_mentions("None", item) == {
        **dict.fromkeys(["strict", "relaxed", "predicted", "token", "token_predicted"], 0.0),
        "gold": 2.0,
        "token_gold": 2.0,
    }


def test_sentence_without_entities_counts_false_ones() -> None:
    item = {"id": "1", "facts": {"text": "no disease here", "spans": []}}
    rows = [statistics("span-f1", "asthma", item), statistics("span-f1", "none", item)]
    assert (
        value("span-precision", rows) == 0.0 and rows[0]["predicted"] == 1.0 and rows[1]["predicted"] == 0.0
    )


def test_tagged_sentence_with_changed_words() -> None:
    reply = (
        "<disease>Type 2 diabetes</disease> and gout was treated using <drug>metformin</drug> , "
        "not <drug>insulins</drug> <drug>aspirin</drug>"
    )
    ours = tagged_mentions(reply, ITEM)
    assert (ours["strict"], ours["relaxed"], ours["predicted"], ours["gold"]) == (2.0, 2.0, 4.0, 4.0)
    assert (ours["token"], ours["token_predicted"], ours["token_gold"]) == (4.0, 6.0, 6.0)


def test_tagged_chinese() -> None:
    item = {"id": "1", "facts": {"text": "患者有糖尿病史", "spans": [[3, 6, "病"]]}}
    assert tagged_mentions("患者有<d>糖尿病</d>史", item)["strict"] == 0.0
    item["facts"]["spans"] = [[3, 6, "d"]]  # type: ignore[index]
    assert tagged_mentions("患者有<d>糖尿病</d>史", item)["strict"] == 1.0
    assert tagged_mentions("患者有<d>糖尿</d>病史", item)["relaxed"] == 1.0


def test_broken_tags_are_no_mentions() -> None:
    assert tagged_mentions("Type 2 diabetes</disease> and <disease>gout", ITEM)["predicted"] == 0.0


def test_span_outside_its_text_is_refused() -> None:
    with pytest.raises(ResidencyError, match=r"span \[3, 99, 'd'\] in a text of 4 characters"):
        listed_mentions("x", {"id": "1", "facts": {"text": "gout", "spans": [[3, 99, "d"]]}})
