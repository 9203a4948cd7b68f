from __future__ import annotations

import numpy as np

from residency.data.curation.words import hash_words


def words(text: str) -> list[int]:
    return [int(word) for word in hash_words([text]).hashes]


def test_case_and_punctuation_make_no_difference() -> None:
    assert words("The liver (hepar), makes bile.") == words("the LIVER hepar makes -- bile")
    assert words("β-Blocker – 5 µg") == words("Β blocker 5 μg")
    assert words("bile liver") == words("liver bile")[::-1]
    assert len(set(words("a aa aaa b ab ba"))) == 6


def test_scripts_without_spaces_are_split_by_character() -> None:
    assert len(words("患者发烧三天。")) == 6
    assert words("患者发烧") == words("患者，发烧")
    assert len(words("La fièvre a duré trois jours")) == 6
    assert len(words("مريض مصاب بالحمى")) == 3
    assert len(words("हिन्दी में")) == 2
    assert len(words("คนไข้")) == len(words("คน ไข้"))


def test_texts_stay_apart() -> None:
    hashed = hash_words(["one two", "", "...", "three"])
    assert hashed.counts.tolist() == [2, 0, 0, 1]
    assert hashed.of(3).tolist() == words("three")
    assert len(hash_words([])) == 0
    assert hash_words([""]).counts.tolist() == [0]


def test_ngrams_are_stretches_of_one_text() -> None:
    hashed = hash_words(["a b c d", "b c d", "c"])
    grams = hashed.ngrams(3)
    assert grams.counts.tolist() == [2, 1, 1]
    assert grams.of(0)[1] == grams.of(1)[0]
    assert grams.of(2)[0] not in grams.of(0)
    assert hash_words(["x", ""]).ngrams(5).counts.tolist() == [1, 0]


def test_a_word_of_megabytes_is_hashed_by_its_head_and_length() -> None:
    long = "x" * 5_000_000
    assert words(long) != words(long + "x")
    assert len(words(long)) == 1


def test_hashes_are_spread() -> None:
    random = np.random.default_rng(0)
    text = " ".join(str(number) for number in random.integers(0, 2**40, 20_000))
    hashes = hash_words([text]).hashes
    assert len(np.unique(hashes)) == len(np.unique(text.split()))
    assert np.bincount((hashes >> np.uint64(60)).astype(np.int64), minlength=16).min() > 1000
