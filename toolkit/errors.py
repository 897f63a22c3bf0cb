"""Every error this package raises on purpose; each message says what was wrong, where, and what to do."""

import difflib
from collections.abc import Iterable

from toolkit.secrets import hidden


class ToolkitError(Exception):
    """The root of the tree: catch it to catch everything below. Secrets in the message are hidden."""

    def __init__(self, message: str = "") -> None:
        super().__init__(hidden(message))


class ConfigError(ToolkitError):
    """A configuration that cannot be used: raised before training starts, never during it."""


class RolloutError(ToolkitError):
    """Arrays of one step that do not fit together, or can no longer be read."""


class SinkError(ToolkitError):
    """A configured backend that cannot start: raised before training starts."""


def cannot_start(sink: str, why: object) -> SinkError:
    """The error of a sink that is configured and cannot start."""
    remedy = f"mend that, or train without this backend (sinks.{sink}=false)"
    return SinkError(f"sinks.{sink}: cannot start: {why}; {remedy}")


class ArtifactError(ToolkitError):
    """An artifact that cannot be saved as it is given, or that is not there or damaged when it is loaded."""


class PolicyError(ToolkitError):
    """A policy that cannot be loaded or does not answer: a damaged checkpoint, an endpoint that nobody serves."""


class MissingExtra(ToolkitError):
    """An optional library is needed and not installed; the message has the pip line."""

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(f"{need}: pip install 'grpo-toolkit[{extra}]'")


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known one that is most like it, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(names) or 'none'}"
