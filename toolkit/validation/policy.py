"""What is validated: anything that turns prompts into completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


class Policy(Protocol):
    """A policy that can be asked on another thread while training goes on, once `snapshot` was taken of it."""

    def generate(self, prompts: Sequence[Any]) -> Sequence[str]:
        """One completion a prompt, as text."""

    def snapshot(self) -> Policy:
        """This policy as it is now; called on the training thread, between steps. Itself, if it never changes."""


class InlinePolicy:
    """A policy that only the training thread can ask, which waits until it has answered."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def generate(self, prompts: Sequence[Any]) -> Sequence[str]:
        """The policy's completions."""
        return self._policy.generate(prompts)

    def snapshot(self) -> Self:
        """Itself: it is asked before training goes on."""
        return self


class FunctionPolicy:
    """A pure function of parameters and prompts, and its parameters: any pytree of JAX arrays.

    For a model that changes in place give a function that returns its parameters now; only a snapshot asks it, so the
    policy can be made once before the loop. With `dtype`, for example bfloat16, a snapshot holds real floating-point
    parameters in that type.
    """

    def __init__(
        self,
        function: Callable[[Any, Sequence[str]], Sequence[str]],
        parameters: Any | Callable[[], Any],
        dtype: DTypeLike | None = None,
    ) -> None:
        self._function = function
        self._parameters = parameters
        self._dtype = dtype

    def generate(self, prompts: Sequence[str]) -> Sequence[str]:
        """The function's completions."""
        return self._function(self._now(), prompts)

    def snapshot(self) -> FunctionPolicy:
        """A copy of the parameters: the next training step may donate the buffers of the originals."""
        leaves, structure = jax.tree.flatten(self._now())
        same = [leaf for leaf in leaves if not self._is_cast(leaf)]
        # All at once, which takes a quarter of the time of one by one.
        copies = iter(jax.device_put(same, [leaf.sharding for leaf in same], may_alias=False))
        held = [leaf.astype(self._dtype) if self._is_cast(leaf) else next(copies) for leaf in leaves]
        return FunctionPolicy(self._function, jax.tree.unflatten(structure, held))

    def _now(self) -> Any:
        return self._parameters() if callable(self._parameters) else self._parameters

    def _is_cast(self, leaf: Any) -> bool:
        return self._dtype is not None and jnp.issubdtype(leaf.dtype, jnp.floating) and leaf.dtype != self._dtype
