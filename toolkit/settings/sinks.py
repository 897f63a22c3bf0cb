"""Settings of the backends."""

from typing import Literal

from pydantic import PositiveInt

from toolkit.settings import Seconds, Section, Switch


class ConsoleSink(Switch):
    """`sinks.console`: a table or a line at multiples of `every` steps, and at most every `every_s` seconds.

    `metrics` are glob patterns of the keys to show; without any a table shows all and a line the most useful ones.
    `prefix` stands before each step.
    """

    style: Literal["table", "lines"] = "table"
    every: PositiveInt = 1
    every_s: Seconds = 10.0
    metrics: tuple[str, ...] = ()
    prefix: str = ""


class Sinks(Section):
    """The backends. The journal (jsonl) is the run's own memory: the others can be rebuilt from it."""

    console: ConsoleSink = ConsoleSink()
    jsonl: Switch = Switch()
    tensorboard: Switch = Switch()
