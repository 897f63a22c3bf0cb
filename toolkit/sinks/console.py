"""The terminal: now and then one table of the newest values, a row a metric, grouped by family."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from toolkit.record import Record
from toolkit.schedule import EverySeconds


class ConsoleSink:
    """Shows the newest training values at most every `every_s` seconds, and each held-out result when it comes.

    A table of 50 rows takes rich about 10 ms, so the rate is limited: everything is in the journal anyway.
    """

    def __init__(self, every_s: float = 10.0, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._turn = EverySeconds(every_s)
        self._newest: dict[str, float] = {}
        self._shown_step: int | None = None
        self._step = 0

    def write(self, records: Sequence[Record]) -> None:
        """Remember the scalars of the records and show them when their turn has come."""
        for record in records:
            self._take(record)

    def _take(self, record: Record) -> None:
        scalars = {key: value for key, value in record.values.items() if isinstance(value, float)}
        if record.stream == "heldout":
            self._console.print(_heldout_line(record.policy_step, scalars))
            return
        self._newest.update(scalars)
        if record.stream == "train":
            self._step = record.policy_step
            if self._turn.due():
                self._show()

    def close(self) -> None:
        """Show the last values, unless they stand there already."""
        if self._newest and self._shown_step != self._step:
            self._show()

    def _show(self) -> None:
        self._console.print(_grid(f"step {self._step}", self._newest))
        self._shown_step = self._step


def _grid(title: str, values: dict[str, float]) -> Grid:
    grid = Grid(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    grid.add_column(style="bold")
    grid.add_column()
    for family, keys in groupby(sorted(values), key=lambda key: key.partition("/")[0]):
        grid.add_row(Text(family), _cells({key.partition("/")[2] or key: values[key] for key in keys}))
    return grid


def _heldout_line(step: int, values: dict[str, float]) -> Text:
    line = Text(f"held-out, policy of step {step}  ", style="bold")
    return line.append_text(_cells({key.removeprefix("heldout/"): values[key] for key in sorted(values)}))


def _cells(values: dict[str, float]) -> Text:
    """Names and numbers in a row; the space within a pair does not break, so that a line ends between pairs."""
    pairs = [Text.assemble((f"{name}\u00a0", "dim"), f"{value:.4g}") for name, value in values.items()]
    return Text("  ", style="not bold").join(pairs)
