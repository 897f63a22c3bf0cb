"""How our own computations run under JAX: how often they were compiled, and that a NaN of theirs is no fault."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import jax

_traces = [0]


def count_compilation() -> None:
    """Call it in the body of a jitted function: Python runs there only while JAX traces, once a compilation."""
    _traces[0] += 1


def compilations() -> int:
    """How many times a computation of ours met a new shape or a new choice of families in this process."""
    return _traces[0]


def nans_allowed() -> AbstractContextManager[object]:
    """Run a computation of ours where the user lets JAX raise at a NaN: with us it means that there is no value."""
    if not (_settings.jax_debug_nans or _settings.jax_debug_infs):
        return nullcontext()
    allowed = ExitStack()
    allowed.enter_context(jax.debug_nans(False))
    allowed.enter_context(jax.debug_infs(False))
    return allowed


_settings: Any = jax.config  # it has no types
