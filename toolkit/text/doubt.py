"""Whether an equation that is false by its numbers may be true by what stands around them."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.text.scanner import OPERATORS, Token

_KINDS_OF_UNITS = (
    "second minute hour day week month year decade century",
    "inch inche foot feet yard mile cm centimeter mm meter km kilometer",
    "ounce oz pound lb ton gram kg kilogram mg",
    "ml liter cup pint quart gallon",
)
_KIND = {unit: kind for kind in _KINDS_OF_UNITS for unit in kind.split()}

_CHANGES_A_NUMBER = frozenset(
    """
    half third quarter fourth fifth sixth eighth tenth halves thirds quarters fourths fifths sixths eighths tenths
    twice double triple thrice dozen dozens pair pairs remainder cent cents penny pennies dime dimes nickel nickels
    """.split()
)
"""Words that make another number of the one beside them; a cent is a hundredth of what stands after a dollar sign."""

_NEAR = 3
"""How many tokens around an equation are looked at."""

_CLAUSE = frozenset("and because but if is are so than that then was were when which".split())
"""Words that no unit has: what is before them is another statement."""

_LEADS_IN = OPERATORS | {"percent", "close", "number", "mixed", "clock", "frac"}
_LEADS_ON = OPERATORS | {"number", "mixed", "clock", "frac"}
_AMBIGUOUS = (
    ("over", "number", "over"),  # 6 / 1/2
    ("minus", "number", "percent"),  # 120 - 30%
    ("plus", "number", "percent"),
)


def doubtful(pieces: Sequence[Token], start: int, end: int) -> bool:
    """Whether the equation from token `start` to before `end` may mean something else than its numbers.

    It does where it is a part of something longer (2 * price + 3 = 9, 17 / 5 = 3 remainder 2), where it names two units
    of one kind (2 hours + 30 minutes), a word in or near it changes a number (half of 3 + 4, 2 dozen, 50 cents), or
    people read its signs in two ways (6 / 1/2, 120 - 30%).
    """
    return _is_a_part(pieces, start, end) or _is_in_words(pieces, start, end) or _is_ambiguous(pieces[start:end])


def _is_a_part(pieces: Sequence[Token], start: int, end: int) -> bool:
    before = pieces[max(start - _NEAR, 0) : start]
    after = pieces[end : end + 1]
    counted = bool(before) and before[-1].kind == "of" and any(piece.kind == "number" for piece in before)
    signed = bool(before) and pieces[start].kind == "minus" and before[-1].kind in ("word", "other")
    return (
        counted  # 40 pieces of $1
        or signed  # the price - 3 + 4
        or any(_belongs(piece, pieces[start], _LEADS_IN) for piece in before[-1:])
        or any(_belongs(piece, pieces[end - 1], _LEADS_ON) for piece in after)
    )


def _belongs(neighbour: Token, edge: Token, kinds: frozenset[str]) -> bool:
    """Whether the token beside the equation is a part of it: an operator, a number, or a letter without a space."""
    attached = edge.start in (neighbour.end, neighbour.start - len(edge.text))
    return neighbour.kind in kinds or (attached and neighbour.text.isalpha())


def _is_in_words(pieces: Sequence[Token], start: int, end: int) -> bool:
    near = _words(pieces[max(start - _NEAR, 0) : end + _NEAR])
    kinds = [_KIND[unit] for unit in {word.removesuffix("s") for word in near} if unit in _KIND]
    return not (
        near.isdisjoint(_CHANGES_A_NUMBER)
        and _words(pieces[start:end]).isdisjoint(_CLAUSE)
        and len(set(kinds)) == len(kinds)
    )


def _words(pieces: Sequence[Token]) -> set[str]:
    return {piece.text.lower().strip("-/ ") for piece in pieces if piece.kind == "word"}


def _is_ambiguous(pieces: Sequence[Token]) -> bool:
    kinds = [piece.kind for piece in pieces]
    threes = set(zip(kinds, kinds[1:], kinds[2:], strict=False))
    of_percents = kinds[1:2] == ["percent"]  # 100% - 30% is clear
    return any(three in threes for three in _AMBIGUOUS[: 1 if of_percents else None])
