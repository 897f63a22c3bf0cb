"""What is validated: anything that turns prompts into completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax


class Policy(Protocol):
    """A policy that can be asked on another thread while training goes on, once `snapshot` was taken of it."""

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        """One completion a prompt, as text."""

    def snapshot(self) -> Policy:
        """This policy as it is now; called on the training thread, between steps. Itself, if it never changes."""


class FunctionPolicy:
    """A pure function of parameters and prompts, and its parameters: any pytree of JAX arrays.

    For a model that changes in place give a function that returns its parameters now; only a snapshot asks it, so the
    policy can be made once before the loop.
    """

    def __init__(
        self, function: Callable[[Any, Sequence[str]], Sequence[str]], parameters: Any | Callable[[], Any]
    ) -> None:
        self._function = function
        self._parameters = parameters

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        """The function's completions."""
        return self._function(self._now(), prompts)

    def snapshot(self) -> FunctionPolicy:
        """A copy of the parameters: the next training step may donate the buffers of the originals."""
        copy = jax.tree.map(lambda x: jax.device_put(x, x.sharding, may_alias=False), self._now())
        return FunctionPolicy(self._function, copy)

    def _now(self) -> Any:
        return self._parameters() if callable(self._parameters) else self._parameters
