"""Which hooks an object has, and how they are called: a callback needs no base class."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from toolkit.callbacks import HOOKS, Callback
from toolkit.complaints import Complaints
from toolkit.errors import ConfigError


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raise `ConfigError` for an object that has none of the hooks."""
    for callback in callbacks:
        if not any(callable(getattr(callback, hook, None)) for hook in HOOKS) or isinstance(callback, type):
            raise ConfigError(
                f"callbacks: {callback!r:.100} is none: expected an object with a method of {', '.join(HOOKS)}"
            )


class Hooks:
    """The hooks of some callbacks: each is timed, and what one raises harms neither the others nor the training.

    `seconds` has what each callback took so far, by its name.
    """

    def __init__(self, callbacks: Sequence[Callback], complaints: Complaints) -> None:
        check_callbacks(callbacks)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._complaints = complaints
        self._methods = {
            hook: [(type(each).__name__, getattr(each, hook)) for each in callbacks if hasattr(each, hook)]
            for hook in HOOKS
        }

    def call(self, hook: str, event: Any) -> None:
        """Hand the event to each callback that has this hook."""
        for name, method in self._methods[hook]:
            began = time.perf_counter()
            try:
                method(event)
            except Exception as error:  # whatever a callback of anyone's raises, training goes on
                self._complaints.add(f"{name}.{hook} at step {getattr(event, 'step', None)}", error)
            self.seconds[name] += time.perf_counter() - began
