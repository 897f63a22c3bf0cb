"""Metric functions of the user's own: each takes a rollout, and its errors stay its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeAlias

from toolkit.callbacks import Source, StepEvent
from toolkit.complaints import Complaints
from toolkit.errors import ConfigError, ToolkitError
from toolkit.hold import joined
from toolkit.rollout import Rollout
from toolkit.settings.metrics import CustomFamily

MetricFunction: TypeAlias = Callable[[Rollout], Any]
"""(rollout) -> a number, or a mapping of names to numbers; called on the worker thread."""


class CustomCallback:
    """Logs what functions of the user's make of each rollout.

    | key | what |
    |---|---|
    | `custom/NAME` | the number that the function gave |
    | `custom/NAME/KEY` | each of the numbers, where it gave a mapping |
    """

    def __init__(self, settings: CustomFamily, functions: Mapping[str, MetricFunction]) -> None:
        self._settings = settings
        self._functions = dict(functions)

    def on_step(self, event: StepEvent) -> None:
        """Take hold of the rollout when it is due; the functions are called by the worker."""
        source = event.rollout
        if self._functions and source and not source.measured and self._settings.due(event.step, event.since):
            self._log(source, event)

    def _log(self, source: Source, event: StepEvent) -> None:
        rollouts_of, complaints = source.later(), event.logger.complaints
        event.logger.log(event.step, lambda: self._values(joined(rollouts_of()), complaints))

    def _values(self, rollout: Rollout, complaints: Complaints) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, function in self._functions.items():
            try:
                given = function(rollout)
            except Exception as error:  # it is the user's code, and must not cost the other metrics
                named = ToolkitError(f"{name} raised {type(error).__name__}: {error}")
                complaints.add("a metric function", named)
                continue
            values[f"custom/{name}"] = given
        return values


def metric_functions(settings: CustomFamily, given: Mapping[str, MetricFunction]) -> dict[str, MetricFunction]:
    """The metric functions by name: those given in code, and those that the configuration names.

    Raises `ConfigError` for one that cannot be imported, and for two of one name.
    """
    functions = dict(given)
    for text in settings.functions if settings.enabled else ():
        name = text.partition(":")[2]
        if name in functions:
            raise ConfigError(f"metrics.custom.functions: {text!r}: there is another metric function named {name!r}")
        functions[name] = _imported(text)
    return functions


def _imported(text: str) -> MetricFunction:
    module, _, name = text.partition(":")
    try:
        function = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"metrics.custom.functions: {text!r} cannot be imported: {error}") from error
    if not callable(function):
        raise ConfigError(f"metrics.custom.functions: {text!r} is a {type(function).__name__}, not a function")
    checked: MetricFunction = function
    return checked
