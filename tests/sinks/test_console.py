"""The terminal: one table now and then, readable without a terminal too."""

import io

from rich.console import Console

from toolkit.record import Histogram, Record
from toolkit.sinks.console import ConsoleSink


def shown(every_s: float, records: list[Record]) -> str:
    out = io.StringIO()
    sink = ConsoleSink(every_s, console=Console(file=out, width=100))
    for record in records:
        sink.write([record])
    sink.close()
    return out.getvalue()


def train(step: int, **values: float) -> Record:
    return Record("train", step, step, 0.0, {key.replace("__", "/"): value for key, value in values.items()})


def test_values_are_grouped_by_family() -> None:
    """A family is a row; each key of it stands there without the family's name."""
    text = shown(1e9, [train(3, policy__entropy=0.5, policy__ratio_max=1.25, trainer__loss=0.125)])
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["step", "3"]
    assert ["policy", "entropy", "0.5", "ratio_max", "1.25"] in lines
    assert ["trainer", "loss", "0.125"] in lines


def test_the_rate_is_limited_and_the_last_values_are_shown_at_the_end() -> None:
    """However fast the steps come, there is one table at the start and one at the close."""
    text = shown(1e9, [train(step, trainer__loss=float(step)) for step in range(100)])
    assert [line.strip() for line in text.splitlines() if line.startswith("step")] == ["step 0", "step 99"]


def test_a_held_out_result_is_shown_when_it_comes_with_the_step_of_its_policy() -> None:
    """A held-out line names the policy's step, not the step at which it arrived."""
    text = shown(1e9, [Record("heldout", 40, 25, 0.0, {"heldout/sums/accuracy": 0.75})])
    assert "policy of step 25" in text
    assert "sums/accuracy 0.75" in text.replace("\u00a0", " ")


def test_what_is_no_number_is_not_shown() -> None:
    """Histograms and tables are for other backends."""
    import numpy as np

    histogram = Histogram(np.ones(2), np.arange(3.0))
    assert "histogram" not in shown(1e9, [Record("train", 0, 0, 0.0, {"a/histogram": histogram, "a/b": 1.0})])


def test_square_brackets_in_a_key_are_no_markup() -> None:
    """A reward named `[x]` is shown as it is."""
    assert "r[/b]/mean" in shown(1e9, [Record("train", 0, 0, 0.0, {"rewards/r[/b]/mean": 1.0})])
