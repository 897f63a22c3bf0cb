"""The parts of a benchmark that its command line asks for."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence


def asked(given: Sequence[str], known: Collection[str]) -> list[str]:
    """The parts that are given, or all that are known; one that is not known ends the program, and says which are."""
    if unknown := [name for name in given if name not in known]:
        sys.exit(f"{', '.join(unknown)}: unknown; expected any of {', '.join(known)}, or nothing for all of them")
    return [*(given or known)]
