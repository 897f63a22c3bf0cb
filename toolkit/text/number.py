"""Numbers as people write them, in digits or in words, as exact fractions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
"""A number without its sign: 12, 1,200.50 or .5. To be put into a group."""

CURRENCY = r"\\?\$|[€£¥₹]"

SCALES = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
"""What the word behind a number multiplies it by."""

_LONGEST = 60
"""Characters of the longest number that is read: exact arithmetic on longer ones costs time and means nothing."""

_WRITTEN = re.compile(rf"({DIGITS})(?:[ ]*({'|'.join(SCALES)})\b)?", re.IGNORECASE)
_ONES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
""".split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SMALL = {word: number for number, word in enumerate(_ONES)} | {word: 20 + 10 * at for at, word in enumerate(_TENS)}


def value(digits: str) -> Fraction | None:
    """The number that matches `DIGITS`; None where it is longer than anyone means."""
    return Fraction(digits.replace(",", "")) if len(digits) <= _LONGEST else None


def decimals(digits: str) -> int:
    """How many digits stand behind the decimal point."""
    return len(digits.partition(".")[2])


def numbers(text: str) -> Iterator[tuple[Fraction, int]]:
    """Each number in digits with where it starts; a sign is not part of it, a scale behind it (2 million) is."""
    for match in _WRITTEN.finditer(text):
        number = value(match[1])
        if number is not None:
            yield number * SCALES.get((match[2] or "").lower(), 1), match.start()


def spoken(text: str) -> set[Fraction]:
    """The numbers that are written in words: five, twenty-five, three hundred, two thousand five hundred."""
    found: set[Fraction] = set()
    whole = part = 0
    for word in re.findall(r"[^\W\d_]+", text.lower()):
        if word in _SMALL:
            # Twenty-five is one number, five six are two.
            goes_on = part % 100 == 0 or (part % 100 >= 20 and part % 10 == 0 and _SMALL[word] < 10)
            whole, part = (whole, part + _SMALL[word]) if goes_on else (0, _SMALL[word])
        elif word == "hundred" and 0 < part < 100:
            part *= SCALES[word]
        elif word in SCALES and 0 < part < 1000:
            whole, part = whole + part * SCALES[word], 0
        elif word != "and":
            whole = part = 0
        if whole or part:
            found.add(Fraction(whole + part))
    return found
