"""Written arithmetic as exact fractions: a recursive-descent parser of one side of an equation.

    sum     := product (("+" | "-") product)*
    product := power (("*" | "/" | "of") power | "(" sum ")")*
    power   := operand ["^" operand]
    operand := "-"? (NUMBER | "(" sum ")" | FRAC "(" sum ")" "(" sum ")") "%"? word*

An operator without a right operand ends the side before it. Brackets are paired beforehand and nothing is read twice
except inside unfinished brackets, whose depth is limited: time is linear in the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from toolkit.text.number import SCALES, value
from toolkit.text.scanner import Token

_DEPTH = 10
"""Brackets nested deeper than this are not read."""
_EXPONENT = 64
_BITS = 2048
"""Larger exponents and values are not computed."""
_WORDS = 4
"""Words that may stand between a number and the operator behind it: its unit."""


@dataclass(frozen=True)
class Side:
    """One side of an equation: its value, that of its first operand, and its tokens, from `start` to before `end`."""

    value: Fraction
    first: Fraction
    start: int
    end: int


class Reader:
    """Reads sides from the tokens of a line."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._closing = _pairs(tokens)
        self._at = 0

    def side(self, start: int) -> Side | None:
        """The longest side that starts at a token; None where none does, or where its value cannot be computed."""
        self._at = start
        try:
            first = self._power()
            if first is None:
                return None
            return Side(self._sum(self._product(first)), first, start, self._at)
        except ArithmeticError:  # a division by zero, or a value over the limit
            return None

    @property
    def at(self) -> int:
        """The token behind what was read."""
        return self._at

    def kind(self, index: int) -> str:
        """The kind of a token; empty before the first and behind the last."""
        return self._tokens[index].kind if 0 <= index < len(self._tokens) else ""

    def _sum(self, total: Fraction) -> Fraction:
        while (kind := self.kind(self._at)) in ("plus", "minus"):
            operator = self._at
            self._at += 1
            power = self._power()
            if power is None:
                self._at = operator
                break
            product = self._product(power)
            total = _bounded(total + product if kind == "plus" else total - product)
        return total

    def _product(self, product: Fraction) -> Fraction:
        while (kind := self._multiplier()) is not None:
            operator = self._at
            self._at += kind != "open"
            power = self._power()
            if power is None:
                self._at = operator
                break
            product = _bounded(product / power if kind == "over" else product * power)
        return product

    def _multiplier(self) -> str | None:
        """The kind of the token here, if a product goes on with it."""
        kind = self.kind(self._at)
        before = self._at - 1
        if kind == "of":
            fraction = self.kind(before) == "percent" or self.kind(before - 1) in ("over", "frac")
            return kind if fraction else None
        if kind == "open":
            adjacent = self._tokens[before].end == self._tokens[self._at].start
            return kind if adjacent and self.kind(before) in ("number", "close") else None
        return kind if kind in ("times", "over") else None

    def _power(self) -> Fraction | None:
        base = self._operand()
        if base is None or self.kind(self._at) != "power":
            return base
        self._at += 1
        exponent = self._operand()
        if exponent is None:
            self._at -= 1
            return base
        if exponent.denominator != 1 or abs(exponent) > _EXPONENT:
            raise OverflowError
        return _bounded(base ** int(exponent))

    def _operand(self) -> Fraction | None:
        start = self._at
        self._at += self.kind(start) == "minus"
        operand = self._unsigned()
        if operand is None:
            self._at = start
            return None
        if self.kind(self._at) == "percent":
            self._at += 1
            operand /= 100
        operand *= self._unit()
        return -operand if self.kind(start) == "minus" else operand

    def _unsigned(self) -> Fraction | None:
        match self.kind(self._at):
            case "number" | "mixed":
                self._at += 1
                return _number(self._tokens[self._at - 1])
            case "open":
                return self._bracket()
            case "frac":
                self._at += 1
                above, below = self._bracket(), self._bracket()
                return None if above is None or below is None else above / below
        return None

    def _bracket(self) -> Fraction | None:
        closing = self._closing.get(self._at)
        if closing is None:
            return None
        self._at += 1
        first = self._power()
        total = None if first is None else self._sum(self._product(first))
        if total is None or self._at != closing:
            return None
        self._at += 1
        return total

    def _unit(self) -> int:
        """Passes over the words behind a number and returns the scale among them: a thousand for 3 thousand eggs."""
        scale = SCALES.get(self._tokens[self._at].text.lower(), 1) if self.kind(self._at) == "word" else 1
        last = self._at + _WORDS
        while self._at < last and self.kind(self._at) == "word":
            self._at += 1
        return scale


def _number(token: Token) -> Fraction | None:
    if token.kind == "number":
        return value(token.text)
    whole, _, part = token.text.partition(" ")
    return Fraction(whole) + Fraction(part) if Fraction(part) < 1 else None


def _bounded(result: Fraction) -> Fraction:
    if result.numerator.bit_length() + result.denominator.bit_length() > _BITS:
        raise OverflowError
    return result


def _pairs(tokens: list[Token]) -> dict[int, int]:
    """The closing bracket of each opening one that nests at most `_DEPTH` deep inside."""
    closing: dict[int, int] = {}
    opened: list[int] = []
    depths = [0]
    for index, token in enumerate(tokens):
        if token.kind == "open":
            opened.append(index)
            depths.append(0)
        elif token.kind == "close" and opened:
            depth = depths.pop() + 1
            depths[-1] = max(depths[-1], depth)
            if depth <= _DEPTH:
                closing[opened[-1]] = index
            opened.pop()
    return closing
