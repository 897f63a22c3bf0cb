"""Settings of the backends."""

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, PositiveInt

from toolkit.settings import Seconds, Section, Switch

PlaceColumn: TypeAlias = Literal["time", "stream", "step", "policy_step"]


def _number_format(spec: str) -> str:
    try:
        format(1.5, spec)
    except ValueError as error:
        raise ValueError(f"expected a format specification of Python such as .6g: {error}") from None
    return spec


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


class JsonlSink(Switch):
    """`sinks.jsonl`: the journal; it goes on in a new file when one has `segment_mb` MB (2**20 bytes each)."""

    segment_mb: PositiveInt = 256


class CsvSink(Switch):
    """`sinks.csv`: the `columns` in front of each row, and the `number` format, by default all digits there are."""

    enabled: bool = False
    columns: tuple[PlaceColumn, ...] = ("time", "stream", "step", "policy_step")
    number: Annotated[str, AfterValidator(_number_format)] = ""


class TextSink(Switch):
    """`sinks.text`: lines on the standard library's loggers, as the section `logging:` says."""

    enabled: bool = False


class Sinks(Section):
    """The backends. The journal (jsonl) is the run's own memory: the others can be rebuilt from it."""

    console: ConsoleSink = ConsoleSink()
    jsonl: JsonlSink = JsonlSink()
    tensorboard: Switch = Switch()
    csv: CsvSink = CsvSink()
    text: TextSink = TextSink()
