"""How much texts repeat each other and themselves."""

import math
import random
import string
import zlib

import pytest

from toolkit.text.diversity import (
    compression_ratio,
    distinct,
    distinct_ngrams,
    repetitive,
    unique_fraction,
    unique_texts,
)


def test_distinct_counts_words_and_signs_within_texts() -> None:
    """By hand: a a b / a b has 2 words of 5, and the pairs aa, ab, ab: 2 of 3."""
    assert distinct_ngrams(["a a b", "a b"], 1) == (2, 5)
    assert distinct_ngrams(["a a b", "a b"], 2) == (2, 3)
    assert distinct(["a a b", "a b"], 2) == pytest.approx(2 / 3)
    assert distinct_ngrams(["3+4=7."], 1) == (6, 6)


def test_distinct_agrees_with_counting_by_sets() -> None:
    """On random words, against n-grams joined as strings."""
    generator = random.Random(0)
    texts = [" ".join(generator.choices(string.ascii_lowercase[:5], k=30)) for _ in range(8)]
    for n in (1, 2, 3):
        joined = [" ".join(text.split()[at : at + n]) for text in texts for at in range(30 - n + 1)]
        assert distinct(texts, n) == pytest.approx(len(set(joined)) / len(joined))


def test_unique_texts_are_counted_without_outer_white_space() -> None:
    """Equal completions are one."""
    assert unique_texts(["a", "a ", "b"]) == (2, 3)
    assert unique_fraction(["a"] * 4) == 0.25


def test_nothing_gives_no_number() -> None:
    """No text, or an empty one, is NaN and not 0."""
    assert math.isnan(distinct([], 1))
    assert math.isnan(distinct(["", "a"], 2))
    assert math.isnan(unique_fraction([]))
    assert math.isnan(compression_ratio(""))
    assert not repetitive("")


def test_the_compression_ratio_is_that_of_zlib() -> None:
    """Bytes over compressed bytes, in UTF-8."""
    text = "für alle Fälle " * 20
    data = text.encode()
    assert compression_ratio(text) == len(data) / len(zlib.compress(data))


def test_a_text_that_ends_in_a_loop_is_repetitive() -> None:
    """A long loop at the end is found whatever stands before it; random letters are none."""
    letters = "".join(random.Random(0).choices(string.ascii_letters, k=20_000))
    assert repetitive(letters + "and then again, " * 1000)
    assert not repetitive("and then again, " * 1000 + letters)


@pytest.mark.parametrize("text", ["\ud800", "\0", "a" * 3_000_000, "a " * 1_000_000])
def test_no_text_is_too_strange_or_too_long(text: str) -> None:
    """Lone surrogates, zeros and megabytes are read like any other text."""
    assert compression_ratio(text) > 0
    assert distinct([text, text], 1) > 0
    assert repetitive(text) in (True, False)
