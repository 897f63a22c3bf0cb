"""The answer that a completion gives, and whether it is the reference's."""

from __future__ import annotations

import re
from fractions import Fraction

from toolkit.text import symbolic
from toolkit.text.number import CURRENCY, DIGITS, SCALES, value

_STATEMENTS = (
    re.compile(r"^[ \t]*####[ \t]*([^\n]*)", re.MULTILINE),
    re.compile(r"^[ \t*_]*(?:A|(?:[Ff]inal )?[Aa]nswer)[*_]*:[ \t*_]*([^\n]*)", re.MULTILINE),
    re.compile(r"\banswer is:?[ \t]*([^\n]*)"),
)
_SENTENCE_END = re.compile(r"[.!?](?=\s)")

_LONGEST = 200
"""Characters of the longest answer that is compared as a number or an expression; a longer one only as a text."""
_TOLERANCE = Fraction(1, 10**9)
_EXPONENT = 400
"""The largest power of ten of a number: 1e999999999 is a text."""

_FRACTION = re.compile(r"\\[dt]?frac\{([0-9]+)\}\{([0-9]+)\}")
_DRESS = re.compile(r"\\(?:text|mathrm|mathbf|boxed)(?=\{)|\\[,;!() ]|\*\*|[{}]|\\(?=[$%])")
"""What LaTeX and Markdown put around a number."""
_NUMBER = re.compile(
    rf"""
    (?P<sign> [-−+]? ) [ ]* (?:{CURRENCY})? [ ]* (?P<inner> [-−]? )
    (?: (?P<whole> [0-9]+ ) [ ]+ (?=[0-9]+[ ]*/) )?
    (?P<digits> {DIGITS} ) (?: [eE](?P<exponent> [-+]?[0-9]{{1,9}}) )?
    (?: [ ]*/[ ]* (?P<below> {DIGITS} ) )?
    [ ]* (?: (?P<percent> %|per[ ]?cent\b ) | (?:{CURRENCY}) )?
    (?P<units> [^0-9\\^*+=<>()\[\]_!|]* )
    """,
    re.VERBOSE,
)
_WORD = re.compile(r"[^\W\d_]+")
_NOT_UNITS = frozenset("or and to pi sqrt sin cos tan log ln exp mod plus minus times dozen half".split())


def final_answer(completion: str, tag: str = "answer") -> str | None:
    r"""What the completion gives as its answer; None where it gives none.

    In this order: the content of the last `<tag>` pair; the last `\boxed{...}`; the rest of the last line that starts
    with `####`, `A:` or `Answer:`; what stands behind the last "answer is", to the end of the sentence. A lone number
    is no answer: crediting the last number of a text would reward a completion that never answers.
    """
    for found in (_tagged(completion, tag), _boxed(completion), _stated(completion)):
        if found is not None:
            return found or None
    return None


def reference_answer(reference: str, tag: str = "answer") -> str:
    """The answer of a reference: the final one of a worked solution, or the reference as a whole."""
    return final_answer(reference, tag) or reference


def same_answer(answer: str, reference: str) -> bool:
    """Whether the two are the same number, the same text, or expressions that are equal.

    Raises `MissingExtra` where they can only be compared as expressions, and math-verify is not installed. Comparing
    expressions can take any time: do it where it can be stopped (`toolkit.text.process`).
    """
    plain = same_plain_answer(answer, reference)
    return symbolic.equal(answer, reference) if plain is None else plain


def same_plain_answer(answer: str, reference: str) -> bool | None:
    """Whether the two are the same number or text; None where that cannot be seen without algebra. Takes no time.

    Numbers compare exactly, to one part in 10^9: 1,200.50 and $1200.5, 18 and "18 dollars", 1/2, 50% and 0.5; a
    percentage is also its number (50% and 50). Texts compare without case and repeated white space. An empty answer is
    always wrong.
    """
    given, wanted = _readings(answer), _readings(reference)
    if given and wanted:
        return any(_close(ours, theirs) for ours, theirs in zip(given, wanted, strict=True))
    text = _text(answer)
    if text == _text(reference):
        return text not in ("", "nan")  # what a missing reference reads as
    return None if symbolic.readable(answer) and symbolic.readable(reference) else False


def _tagged(text: str, tag: str) -> str | None:
    closing = text.rfind(f"</{tag}>")
    opening = text.rfind(f"<{tag}>", 0, max(closing, 0))
    return text[opening + len(tag) + 2 : closing].strip() if 0 <= opening < closing else None


def _boxed(text: str) -> str | None:
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    depth = 0
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace.group() == "{" else -1
        if depth == 0:
            return text[start + len(r"\boxed{") : start + brace.start()].strip()
    return None


def _stated(text: str) -> str | None:
    for statement in _STATEMENTS:
        if found := statement.findall(text):
            return _SENTENCE_END.split(found[-1], maxsplit=1)[0].strip(" \t*_.:")
    return None


def _text(answer: str) -> str:
    return " ".join(answer.casefold().split()).strip(" *.$")


def plain_number(answer: str) -> Fraction | None:
    """The number that an answer is, exactly; None where it is no plain number. A percent sign is passed over."""
    match = _match(answer)
    return _number(match) if match else None


def _readings(answer: str) -> tuple[Fraction, Fraction] | None:
    """The number that an answer is, and what it is if a percentage counts as a share."""
    match = _match(answer)
    number = _number(match) if match else None
    if match is None or number is None:
        return None
    return number, number / 100 if match["percent"] else number


def _match(answer: str) -> re.Match[str] | None:
    if len(answer) > _LONGEST:
        return None
    return _NUMBER.fullmatch(_DRESS.sub("", _FRACTION.sub(r" \1/\2", answer)).strip())


def _number(match: re.Match[str]) -> Fraction | None:
    words = [word.lower() for word in _WORD.findall(match["units"])]
    exponent = int(match["exponent"] or 0)
    number, below = value(match["digits"]), value(match["below"] or "1")
    if number is None or not below or abs(exponent) > _EXPONENT or not all(map(_may_be_a_unit, words)):
        return None
    scale = SCALES.get(words[0], 1) if words else 1
    size = int(match["whole"] or 0) + number * Fraction(10) ** exponent / below * scale
    return -size if "-" in (match["sign"] + match["inner"]).replace("−", "-") else size


def _may_be_a_unit(word: str) -> bool:
    # A single letter is a variable: 2x is not 2.
    return word == "a" or (len(word) > 1 and word not in _NOT_UNITS)


def _close(one: Fraction, other: Fraction) -> bool:
    return abs(one - other) <= _TOLERANCE * max(abs(one), abs(other))
