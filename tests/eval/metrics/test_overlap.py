"""Overlap with references against rouge-score, sacrebleu and SQuAD's script, and by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from residency.errors import ResidencyError
from residency.eval.metrics import METRICS, columns, statistics, value
from residency.eval.metrics.overlap import (
    common_length,
    exact_and_f1,
    normalise,
    reading_grade,
    rouge,
    syllables,
    tokens,
)

TEXT = (
    "the patient denies chest pain and takes lisinopril 20 mg daily for her blood-pressure (BP), since 2019."
)
WORDS = TEXT.split()


def made_up(random_: random.Random) -> str:
    return " ".join(random_.choice(WORDS) for _ in range(random_.randint(0, 30)))


def item(*answers: str) -> dict[str, object]:
    return {"id": "1", "answers": list(answers)}


def test_rouge_is_rouge_scores() -> None:
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"])
    random_ = random.Random(0)
    for _ in range(300):
        reply, references = made_up(random_), [made_up(random_) for _ in range(random_.randint(1, 3))]
        expected = theirs.score_multi(references, reply)
        ours = rouge(reply, item(*references))
        assert ours == pytest.approx({name: score.fmeasure for name, score in expected.items()})


def test_rouge_by_hand() -> None:
    ours = rouge("the cat sat", item("the cat lay down"))
    assert ours == pytest.approx({"rouge1": 4 / 7, "rouge2": 2 / 5, "rougeL": 4 / 7})
    assert rouge("", item("a word")) == {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}


def test_longest_common_subsequence_by_table() -> None:
    random_ = random.Random(1)
    for _ in range(200):
        one, other = ([random_.choice("abc") for _ in range(random_.randint(0, 12))] for _ in range(2))
        table = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
        for i, left in enumerate(one):
            for j, right in enumerate(other):
                table[i + 1, j + 1] = (
                    table[i, j] + 1 if left == right else max(table[i, j + 1], table[i + 1, j])
                )
        assert common_length(one, other) == table[-1, -1]


def test_chinese_is_counted_by_characters() -> None:
    assert tokens("患者服用aspirin 20mg。") == ["患", "者", "服", "用", "aspirin", "20mg"]
    assert rouge("头痛", item("头痛发热"))["rouge1"] == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert exact_and_f1("头痛。", item("头痛")) == {"exact": 1.0, "f1": 1.0}
    assert exact_and_f1("头痛", item("头晕")) == {"exact": 0.0, "f1": 0.5}


def test_letters_with_accents_stay_in_their_word() -> None:
    assert tokens("Ménière's naïve_cell") == ["ménière", "s", "naïve", "cell"]


@pytest.mark.parametrize("script", ["13a", "zh"])
def test_bleu_is_sacrebleus_corpus_score(script: str) -> None:
    random_ = random.Random(2)
    replies = [made_up(random_) for _ in range(20)]
    references = [[made_up(random_) + "痛" * (script == "zh") for _ in range(2)] for _ in replies]
    rows = [statistics("bleu", reply, item(*r)) for reply, r in zip(replies, references, strict=True)]
    theirs = BLEU(tokenize=script).corpus_score(
        replies, [list(each) for each in zip(*references, strict=True)]
    )
    assert value("bleu", rows) == pytest.approx(theirs.score / 100)


@pytest.mark.parametrize(
    ("reply", "reference"),
    [
        ("one two three four five", "one two three four five"),
        ("one two", "one two"),
        ("one x two y three", "one two three four five six"),
        ("nothing here is shared", "wholly other words follow"),
        ("", "a b c d"),
    ],
)
def test_bleu_of_short_replies_is_sacrebleus(reply: str, reference: str) -> None:
    theirs = BLEU().corpus_score([reply], [[reference]]).score / 100
    assert value("bleu", [statistics("bleu", reply, item(reference))]) == pytest.approx(theirs, abs=1e-12)


def test_bleu_of_several_resamples_at_once() -> None:
    random_ = random.Random(3)
    rows = [statistics("bleu", made_up(random_), item(made_up(random_))) for _ in range(10)]
    names, matrix = columns(rows)
    halves = np.stack([matrix[:5].sum(axis=0), matrix[5:].sum(axis=0)])
    ours = METRICS["bleu"].value(dict(zip(names, halves.T, strict=True)))
    assert ours == pytest.approx([value("bleu", rows[:5]), value("bleu", rows[5:])])


def test_chrf_is_the_mean_of_sacrebleus() -> None:
    replies, references = ["chest pain", "no fever"], ["chest pains", "a fever"]
    rows = [statistics("chrf", reply, item(r)) for reply, r in zip(replies, references, strict=True)]
    theirs = [
        CHRF().sentence_score(reply, [r]).score / 100 for reply, r in zip(replies, references, strict=True)
    ]
    assert value("chrf", rows) == pytest.approx(np.mean(theirs))


def test_squad_normalisation_and_best_reference() -> None:
    assert normalise("The  COVID-19, (a) virus!") == "covid19 virus"
    assert exact_and_f1("The aspirin.", item("ibuprofen", "aspirin")) == {"exact": 1.0, "f1": 1.0}
    # 2 of 3 words said, 2 of 4 wanted: F1 = 2 * (2/3) * (2/4) / (2/3 + 2/4)
    assert exact_and_f1("acute chest infection", item("acute infection of lung"))["f1"] == pytest.approx(
        4 / 7
    )
    assert exact_and_f1("", item("the")) == {"exact": 1.0, "f1": 1.0}


def test_reading_grade_by_hand() -> None:
    # 6 words, 2 sentences, 7 syllables
    ours = reading_grade("The cat sat. It was happy.", item("x"))
    assert ours == {"grade": pytest.approx(0.39 * 3 + 11.8 * 7 / 6 - 15.59), "graded": 1.0}
    hard = reading_grade("Hypertensive cardiomyopathy necessitates multidisciplinary evaluation.", item("x"))
    assert hard["grade"] > 20 > ours["grade"]
    assert reading_grade("患者", item("x")) == {"grade": 0.0, "graded": 0.0}


@pytest.mark.parametrize(
    ("word", "count"),
    [
        *[("cat", 1), ("pain", 1), ("take", 1), ("taken", 2), ("table", 2), ("doctor", 2), ("medicine", 3)],
        *[
            ("walked", 1),
            ("wanted", 2),
            ("needed", 2),
            ("takes", 1),
            ("doses", 2),
            ("aspirin", 3),
            ("the", 1),
        ],
        *[
            ("disease", 2),
            ("diseases", 3),
            ("fever", 2),
            ("breathe", 1),
            ("surgery", 3),
            ("be", 1),
            ("muscle", 2),
        ],
    ],
)
def test_syllables(word: str, count: int) -> None:
    assert syllables(word) == count


def test_reference_that_is_missing_is_refused() -> None:
    with pytest.raises(ResidencyError, match=r"item '7' has answers \[\]"):
        rouge("x", {"id": "7", "answers": []})
