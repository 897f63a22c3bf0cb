"""Settings of the backends."""

from toolkit.settings import Seconds, Section, Switch


class ConsoleSink(Switch):
    """`sinks.console`: one table at most every `every_s` seconds."""

    every_s: Seconds = 10.0


class TextSink(Switch):
    """`sinks.text`: lines on the standard library's loggers, as the section `logging:` says."""

    enabled: bool = False


class Sinks(Section):
    """The backends. The journal (jsonl) is the run's own memory: the others can be rebuilt from it."""

    console: ConsoleSink = ConsoleSink()
    jsonl: Switch = Switch()
    tensorboard: Switch = Switch()
    text: TextSink = TextSink()
