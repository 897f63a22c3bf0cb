"""`equations`: the arithmetic that a text writes down, and whether it is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from toolkit.text.doubt import doubtful
from toolkit.text.expression import Reader, Side
from toolkit.text.number import SCALES, decimals
from toolkit.text.scanner import OPERATORS, Token, tokens

_ANNOTATION = re.compile(r"<<([^<>\n]*)>>")
_RELATIONS = ("equals", "about")
_SLACK = Fraction(1, 10**9)
"""What binary floating point adds to a value that a program wrote, relative to it."""


@dataclass(frozen=True)
class Equation:
    """An equation of two or more sides: their values in order, whether it holds, and its characters in the text."""

    values: tuple[Fraction, ...]
    holds: bool
    start: int
    end: int


@lru_cache(maxsize=64)  # a completion is asked about twice, a reference by each completion of its prompt
def equations(text: str) -> tuple[Equation, ...]:
    """The arithmetic equations of a text in the order in which they start.

    An equation is sides joined by `=` or `≈` on one line, at least one of them with an operator: `16 - 3 - 4 = $9`,
    `50% of 80 = 40`, `2 x 0.5 = 1.0`, `1/2 * 6 eggs = 3`, and GSM8K's `<<3*3=9>>`, which counts once where the text
    around it says the same. It holds when each side equals the next, where a side that is one number may be rounded or
    cut off to the decimals it shows (10/3 = 3.33; after `≈` also to a whole number), or when it is a running
    calculation (3 + 4 = 7 * 2 = 14). The label in front of 3 boxes = 3 * 12 = 36 is not a side.

    One that does not hold counts only where nothing around it can make it true (`toolkit.text.doubt`). A side that
    divides by zero or is too large to compute is no side. Time is linear in the text.
    """
    found: list[Equation] = []
    at = 0
    for line in without_annotations(text).splitlines(keepends=True):
        found += _of_line(line, at)
        at += len(line)
    outside = iter(found)
    around = next(outside, None)
    for annotation in _ANNOTATION.finditer(text):
        while around is not None and around.end < annotation.start():
            around = next(outside, None)
        repeated = around.values if around is not None and around.start < annotation.start() else ()
        found += [inner for inner in _of_line(annotation[1], annotation.start(1)) if inner.values != repeated]
    return tuple(sorted(found, key=lambda equation: equation.start))


def without_annotations(text: str) -> str:
    """The text with blanks in place of GSM8K's `<<3*3=9>>`."""
    return _ANNOTATION.sub(lambda annotation: " " * len(annotation.group()), text)


def _of_line(line: str, offset: int) -> Iterator[Equation]:
    if "=" not in line and "≈" not in line and "approx" not in line:
        return
    pieces = tokens(line)
    reader = Reader(pieces)
    at = 0
    while at < len(pieces):
        sides, at = _chain(reader, at)
        if sides and _is_a_label(pieces, sides[0]):
            sides = sides[1:]
        if len(sides) > 1 and any(_operators(pieces, side) for side in sides):
            start, end = sides[0].start, _without_unit(pieces, sides[-1])
            holds = _holds(pieces, sides)
            if holds or not doubtful(pieces, start, end):
                values = tuple(side.value for side in sides)
                yield Equation(values, holds, offset + pieces[start].start, offset + pieces[end - 1].end)


def _is_a_label(pieces: list[Token], side: Side) -> bool:
    """Whether a side names what is computed: the 3 boxes of 3 boxes = 3 * 12 = 36."""
    return not _operators(pieces, side) and pieces[side.end - 1].kind == "word"


def _without_unit(pieces: list[Token], side: Side) -> int:
    """The token behind a side without the words that stand behind its number."""
    end = side.end
    while pieces[end - 1].kind == "word" and pieces[end - 1].text.lower() not in SCALES:
        end -= 1
    return end


def _chain(reader: Reader, at: int) -> tuple[list[Side], int]:
    """The sides that start at a token, joined by relations, and the token behind them."""
    sides: list[Side] = []
    while (side := reader.side(at)) is not None:
        sides.append(side)
        at = side.end + 1
        if reader.kind(side.end) not in _RELATIONS:
            return sides, side.end
    # A relation without a side behind it; what could not be read is not read again.
    return sides, max(reader.at, at) if sides else max(reader.at, at + 1)


def _holds(pieces: list[Token], sides: list[Side]) -> bool:
    for index, (left, right) in enumerate(pairwise(sides)):
        goes_on = index + 2 < len(sides) and _operators(pieces, right)
        if not (_equal(pieces, left, right) or (goes_on and left.value == right.first)):
            return False
    return True


def _equal(pieces: list[Token], left: Side, right: Side) -> bool:
    about = pieces[left.end].kind == "about"
    return _shows(pieces, left, right.value, about) or _shows(pieces, right, left.value, about)


def _shows(pieces: list[Token], side: Side, exact: Fraction, about: bool) -> bool:
    """Whether a side is the exact value, or one number that is this value rounded or cut off to the digits it shows."""
    unit = _last_digit(pieces, side, about)
    # People also write 1/4 * 100 = 25%.
    values = (exact, exact / 100) if pieces[side.end - 1].kind == "percent" else (exact,)
    for value in values:
        gap = abs(value - side.value)
        cut_off = gap < unit and abs(side.value) < abs(value)
        if gap <= max(unit / 2, _SLACK * abs(value)) or cut_off:
            return True
    return False


def _last_digit(pieces: list[Token], side: Side, about: bool) -> Fraction:
    """What one step of its last digit is worth, 0 where a side is not one number or, unless `about`, a whole one."""
    written = [piece for piece in pieces[side.start : side.end] if piece.kind in ("number", "mixed")]
    digits = decimals(written[0].text) if len(written) == 1 else 0
    if len(written) > 1 or written[0].kind == "mixed" or not (digits or about):
        return Fraction(0)
    number = Fraction(written[0].text.replace(",", ""))
    factor: Fraction = abs(side.value / number) if number else Fraction(1)  # of a percent sign or a scale
    return factor * Fraction(f"1e-{digits}")


def _operators(pieces: list[Token], side: Side) -> bool:
    return any(piece.kind in OPERATORS or piece.kind in ("of", "frac") for piece in pieces[side.start + 1 : side.end])
