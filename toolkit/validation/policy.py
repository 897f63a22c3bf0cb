"""What is validated: anything that turns prompts into completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import jax


class Policy(Protocol):
    """A policy that can be asked on another thread while training goes on, once `snapshot` was taken of it."""

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        """One completion a prompt, as text."""

    def snapshot(self) -> Policy:
        """This policy as it is now; called on the training thread, between steps. Itself, if it never changes."""


class FunctionPolicy:
    """A pure function of parameters and prompts, and the parameters (any pytree of JAX arrays)."""

    def __init__(self, function: Callable[[Any, Sequence[str]], Sequence[str]], parameters: Any) -> None:
        self._function = function
        self._parameters = parameters

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        """The function's completions."""
        return self._function(self._parameters, prompts)

    def snapshot(self) -> Self:
        """A copy of the parameters: the next training step may donate the buffers of the originals."""
        copy = jax.tree.map(lambda x: jax.device_put(x, x.sharding, may_alias=False), self._parameters)
        return type(self)(self._function, copy)
