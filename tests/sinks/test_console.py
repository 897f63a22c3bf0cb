"""The terminal: a table or a line now and then, readable without a terminal too, and no danger to its host."""

import io
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tqdm import tqdm

from toolkit.record import Histogram, Record, Text
from toolkit.sinks.console import ConsoleSink


def shown(every_s: float, records: list[Record], width: int = 100, **settings: Any) -> str:
    out = io.StringIO()
    sink = ConsoleSink(every_s, console=Console(file=out, width=width), **settings)
    for record in records:
        sink.write([record])
    sink.close()
    return out.getvalue()


def train(step: int, **values: float) -> Record:
    return Record("train", step, step, 0.0, {key.replace("__", "/"): value for key, value in values.items()})


def everything(terminal: int) -> str:
    """What was written to a terminal whose other end is closed: one read gives as little as one write of it."""
    parts: list[bytes] = []
    with suppress(OSError), open(terminal, "rb", buffering=0) as reader:  # an error is how the system says the end
        parts.extend(iter(lambda: reader.read(10_000), b""))
    return b"".join(parts).decode()


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
    assert "sums/accuracy 0.75" in text


def test_what_is_no_number_is_not_shown() -> None:
    """Histograms and tables are for other backends."""
    histogram = Histogram(np.ones(2), np.arange(3.0))
    assert "histogram" not in shown(1e9, [Record("train", 0, 0, 0.0, {"a/histogram": histogram, "a/b": 1.0})])


def test_square_brackets_in_a_key_are_no_markup() -> None:
    """A reward named `[x]` is shown as it is."""
    assert "r[/b]/mean" in shown(1e9, [Record("train", 0, 0, 0.0, {"rewards/r[/b]/mean": 1.0})])


LINES = """
import sys
from toolkit.record import Record
from toolkit.sinks.console import ConsoleSink
sink = ConsoleSink(1e-9, {settings})
for step in range(3):
    sink.write([Record("train", step, step, 0.0, {{"policy/entropy": 0.5, **{{f"a/{{n}}": 1.0 for n in range(30)}}}})])
    {after}
sink.close()
print("went on")
"""


def ran(settings: str = "every=1", after: str = "pass", **options: Any) -> subprocess.CompletedProcess[str]:
    """A process that shows three steps on its standard error."""
    code = LINES.format(settings=settings, after=after)
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False, **options)


def test_a_line_shows_the_useful_values_or_else_all() -> None:
    """The line style gives a line a turn, however narrow the console is."""
    useful = shown(1e-9, [train(step, policy__entropy=0.5, policy__chi2=1.0) for step in (0, 1)], 10, style="lines")
    assert useful == "step 0  policy/entropy 0.5\nstep 1  policy/entropy 0.5\n"
    assert shown(1e-9, [train(0, mine=1.0, other=2.0)], style="lines") == "step 0  mine 1  other 2\n"


def test_patterns_choose_what_is_shown_and_in_which_order() -> None:
    """Only keys that match are shown, in a table too, and a line has them in the order of the patterns."""
    records = [train(0, b__x=1.0, a__y=2.0, c__z=3.0)]
    chosen = ["b/*", "a/y"]
    assert shown(1e9, records, style="lines", metrics=chosen) == "step 0  b/x 1  a/y 2\n"
    assert "z 3" not in shown(1e9, records, metrics=chosen)


def test_only_multiples_of_every_are_shown_and_the_end() -> None:
    """Steps between are passed over; the last one is shown at the close."""
    text = shown(1e-9, [train(step, loss=0.0) for step in range(5)], style="lines", every=3, prefix="[a]")
    assert text == "[a] step 0  loss 0\n[a] step 3  loss 0\n[a] step 4  loss 0\n"


def test_a_prefix_in_brackets_stands_before_a_table_too() -> None:
    """The prefix is no markup."""
    assert shown(1e9, [train(0, loss=0.0)], prefix="[run a]").split("\n")[0] == "[run a] step 0"


def test_a_narrow_table_breaks_between_pairs_only() -> None:
    """Every name stands beside its value, whatever the width is."""
    text = shown(1e9, [train(0, **{f"policy__quantity_{number}": float(number) for number in range(20)})], 50)
    assert all(f"quantity_{number} {number}" in re.split(r"  +|\n", text) for number in range(20))
    assert max(map(len, text.splitlines())) <= 50


def test_keys_of_another_stream_bear_its_name() -> None:
    """A value of the user's own stream does not replace the training's value of the same key."""
    records = [train(7, loss=1.0), Record("eval", 2, 2, 0.0, {"loss": 3.0})]
    assert shown(1e9, records, style="lines").splitlines()[0] == "step 7  loss 1"
    assert "eval/loss 3" in shown(1e9, [*reversed(records)], style="lines")


def test_system_texts_and_alerts_are_shown_when_they_come() -> None:
    """Other texts are not; what would move the cursor and half characters are question marks."""
    system = Record("system", 4, 4, 0.0, {"note": Text("a\x1b[2Jb\ud800")})
    alert = Record("train", 5, 5, 0.0, {"alert/KL grows": Text("0.9"), "quiet": Text("hidden")})
    assert shown(1e9, [system, alert]) == "note, step 4  a?[2Jb?\nALERT KL grows, step 5  0.9\n"


@pytest.mark.parametrize("columns", ["120", "0", "7"])
def test_without_a_terminal_there_are_no_escape_codes_and_columns_is_the_width(columns: str) -> None:
    """In a log file a table is plain text of the given width, and of 40 columns where that is no width."""
    environment = {key: value for key, value in os.environ.items() if key != "FORCE_COLOR"}
    error = ran(stderr=subprocess.PIPE, env=environment | {"COLUMNS": columns}).stderr
    assert "\x1b" not in error
    assert "entropy 0.5" in error
    assert max(map(len, error.splitlines())) <= max(40, int(columns))


def test_a_reader_that_went_away_costs_no_training() -> None:
    """After a broken pipe the process goes on, its standard output stays, and the sink closes."""
    reader, writer = os.pipe()
    os.close(reader)
    done = ran(stderr=writer)
    os.close(writer)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_a_closed_standard_error_costs_no_training() -> None:
    """So it is when the host closes its standard error, or has none."""
    for after in ("sys.stderr.close()", "sys.stderr = None"):
        done = ran(after=after, stderr=subprocess.PIPE)
        assert (done.returncode, done.stdout) == (0, "went on\n")


def test_a_progress_bar_of_tqdm_stands_below_what_is_shown() -> None:
    """The bar is taken off the terminal before a line is shown, and put back below it."""
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal, tqdm(total=10, file=terminal, ascii=True) as bar:
        sink = ConsoleSink(1e-9, style="lines", console=Console(file=terminal, force_terminal=True, color_system=None))
        sink.write([train(0, loss=1.0)])
        bar.disable = True
    before, line, below = everything(ours).partition("step 0  loss 1")
    assert line
    assert before.endswith("\r")
    assert "0/10" in below
