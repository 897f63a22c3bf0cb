"""The pieces of which written arithmetic consists: numbers, signs, and the words beside them."""

from __future__ import annotations

import re
from typing import NamedTuple

from toolkit.text.number import CURRENCY, DIGITS

OPERATORS = frozenset({"plus", "minus", "times", "over", "power"})
_LETTER = r"[^\W\d_]"
_TOKEN = re.compile(
    rf"""
    (?P<blank>   ^[ \t]*(?:[-*•]|[0-9]{{1,3}}[.):])[ \t]+ )           # a bullet, or the number of a list's item
  | (?P<power>   (?<=[\d)])\*\*(?=[-\d(]) | \^ )
  | (?P<space>   \s+ | {CURRENCY} | \*\* | \\boxed(?=\{{) | \\[,;!] | & )  # ** is bold type here
  | (?P<clock>   [0-9]+:[0-9]+ )
  | (?P<mixed>   [0-9]+[ ][1-9][0-9]?/[1-9][0-9]?(?![0-9.,/%]) )
  | (?P<number>  {DIGITS} )
  | (?P<percent> (?:[.]{{2,}}|…)?\\?% | per[ ]?cent\b )
  | (?P<times>   [*×·⋅] | \\times | \\cdot | (?:times|multiplied[ ]by)\b | [xX](?=[ \t]*(?:{CURRENCY})?[ \t]*[(.\d\\]) )
  | (?P<over>    [÷/](?![ \t]*{_LETTER}) | \\div | divided[ ]by\b )
  | (?P<plus>    \+ | plus\b )
  | (?P<minus>   [-−–](?!{_LETTER}) | minus\b )
  | (?P<equals>  = )
  | (?P<about>   ≈ | \\approx )
  | (?P<frac>    \\[dt]?frac(?=\{{) )
  | (?P<open>    (?:\\left)?[(\[{{] )
  | (?P<close>   (?:\\right)?[)\]}}] )
  | (?P<of>      of\b )
  | (?P<word>    (?:-|/[ \t]*)?{_LETTER}(?:{_LETTER}|['’])+ | a(?=[ ]{_LETTER}{{2}}) | \\text\{{[^{{}}]*\}} )
  | (?P<other>   . )
    """,
    re.VERBOSE | re.MULTILINE,
)


class Token(NamedTuple):
    """A piece of a line: its kind (a group of the scanner), its text, and the character at which it starts."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """The character behind it."""
        return self.start + len(self.text)


def tokens(line: str) -> list[Token]:
    """The pieces of a line without its spaces, currency signs and bold type."""
    found = (Token(match.lastgroup or "", match.group(), match.start()) for match in _TOKEN.finditer(line))
    return [token for token in found if token.kind not in ("blank", "space")]
