"""Which hooks an object has: a callback needs no base class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from toolkit.callbacks import HOOKS, Callback
from toolkit.errors import ConfigError


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Raise `ConfigError` for an object that has none of the hooks."""
    for callback in callbacks:
        if not any(callable(getattr(callback, hook, None)) for hook in HOOKS) or isinstance(callback, type):
            raise ConfigError(
                f"callbacks: {callback!r:.100} is none: expected an object with a method of {', '.join(HOOKS)}"
            )


def hooks_of(callbacks: Sequence[Callback]) -> dict[str, list[tuple[str, Callable[[Any], None]]]]:
    """The methods of each hook, with the name of the callback."""
    check_callbacks(callbacks)
    return {
        hook: [(type(callback).__name__, getattr(callback, hook)) for callback in callbacks if hasattr(callback, hook)]
        for hook in HOOKS
    }
