"""What our own samples cannot give: by default they are a few chosen completions of a step, and long texts are cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, groupby
from pathlib import Path

from toolkit.config import load
from toolkit.errors import ConfigError
from toolkit.own_log import log as _log
from toolkit.recording import Fields, rows_of

_OF_ALL_ROWS = ("groups", "text")
"""Families that need all completions of a prompt."""

_OF_WHOLE = {"prompt": ("task",), "completion": ("format", "text", "task"), "reference": ("task",)}
"""Families that need this text without a cut."""

_CUT = re.compile(r" \[\d+ more characters\] ")


def wrong_families(files: Sequence[Path], fields: Fields) -> set[str]:
    """The families that would be wrong, since rows were chosen or texts were cut; says which, and why."""
    largest, cut = _looked_at(files, fields)
    most = _most_rows(files[0])
    chosen = _OF_ALL_ROWS if most is None or largest >= most else ()
    torn = {family for text in cut for family in _OF_WHOLE[text]}
    if chosen:
        _log.warning(
            "%s: its %d completions of a step may be chosen ones (best, worst, drawn) and not all: means and spreads "
            "are of these. Left out unless an override switches it on: %s",
            files[0],
            largest,
            ", ".join(chosen),
        )
    if torn:
        _log.warning(
            "%s: where it is long, the %s was cut. Left out unless an override switches it on: %s",
            files[0],
            " and the ".join(sorted(cut)),
            ", ".join(sorted(torn)),
        )
    return {*chosen, *torn}


def _looked_at(files: Sequence[Path], fields: Fields) -> tuple[int, set[str]]:
    """The most rows of a step, and the kinds of text of which one was cut."""
    largest, cut = 0, set[str]()
    rows = chain.from_iterable(rows_of(file, "samples", fields) for file in files)
    for _, of_step in groupby(rows, key=lambda row: row.step):
        found = list(of_step)
        largest = max(largest, len(found))
        cut |= {name for name in _OF_WHOLE for row in found if _CUT.search(getattr(row, name) or "")}
    return largest, cut


def _most_rows(journal: Path) -> int | None:
    """How many rows of a step the run kept at most; None where its configuration is not there."""
    try:
        return load(journal.absolute().parents[1] / "config.yaml").samples.rows
    except ConfigError:
        return None
