"""How much completions repeat each other, and themselves."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence
from itertools import chain

_TOKEN = re.compile(r"\w+|[^\w\s]")
_READ = 100_000
"""Characters of a text that are read, from its start: more than any completion has."""
_TAIL = 10_000
_REPETITIVE = 10.0


def distinct_ngrams(texts: Sequence[str], n: int) -> tuple[int, int]:
    """(distinct, all) n-grams of words in the texts together: of what `distinct` is made.

    A word is a run of letters and digits, or one sign. An n-gram does not cross from a text to the next.
    """
    tokens = [_TOKEN.findall(text[:_READ]) for text in texts]
    ngrams = chain.from_iterable(zip(*(words[start:] for start in range(n)), strict=False) for words in tokens)
    return len(set(ngrams)), sum(max(len(words) - n + 1, 0) for words in tokens)


def distinct(texts: Sequence[str], n: int) -> float:
    """Distinct n-grams over all n-grams (Li et al. 2016, arXiv 1510.03055); NaN where there is none.

    It falls with the number and the length of the texts, so compare it between sets of one size only. Over many prompts
    it is taken for each prompt's completions, and the two counts of `distinct_ngrams` are summed before dividing.
    """
    found, every = distinct_ngrams(texts, n)
    return found / every if every else math.nan


def unique_texts(texts: Sequence[str]) -> tuple[int, int]:
    """(different, all) texts: of what `unique_fraction` is made. White space at the ends does not count."""
    return len({text.strip() for text in texts}), len(texts)


def unique_fraction(texts: Sequence[str]) -> float:
    """The share of the texts that are left when each is kept once; NaN where there is none. 1/n when all are equal."""
    different, every = unique_texts(texts)
    return different / every if every else math.nan


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over their bytes in zlib; NaN for an empty text. Prose has 1.5 to 3, a loop far more.

    Over many texts: the mean, so the sum of the ratios and their count.
    """
    data = text[:_READ].encode("utf-8", "replace")
    return len(data) / len(zlib.compress(data)) if data else math.nan


def repetitive(text: str) -> bool:
    """Whether the last 10,000 characters compress more than tenfold: the text ends in a loop.

    The criterion of slime (github.com/THUDM/slime). Over many texts: the count of such texts, and of all.
    """
    return compression_ratio(text[-_TAIL:]) > _REPETITIVE
