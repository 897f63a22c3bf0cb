"""Flax loops, linen and NNX: the observer as a list of callbacks that a loop calls after each step.

    callbacks = loop_callbacks(observer, answer)
    for step in range(steps):
        state, rollout, gradients, loss = train_step(state, batch)
        for callback in callbacks:
            callback(step, state, rollout, trees={"gradients": gradients}, loss=loss)

Whoever needs no list calls `observer.step` and `observer.validate` as in any other loop of JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from flax import nnx

from toolkit.callbacks import Given
from toolkit.callbacks.observer import Observer
from toolkit.trees import Trees
from toolkit.validation.policy import FunctionPolicy

Answer: TypeAlias = Callable[[Any, Sequence[str]], Sequence[str]]
"""One completion a prompt, from the parameters of a linen model, or from an NNX model, and the prompts."""


class LoopCallback(Protocol):
    """What a loop calls when a step has ended, before the next one, which may donate the state."""

    def __call__(self, step: int, state: Any, given: Given | None = None, **named: Any) -> None:
        """Step `step`, counted from 0, gave this state.

        `given` is what `Observer.step` takes: a rollout, or the statistics that the jitted step returned; so are
        `timings`, `batch` and `trees` by their names. The loop's own scalars have any other name.
        """


class StepCallback:
    """Hands each step to the observer: what it measures stands in the tables of its callbacks."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def __call__(
        self,
        step: int,
        state: Any,
        given: Given | None = None,
        *,
        timings: Mapping[str, float] | None = None,
        batch: Mapping[str, Any] | None = None,
        trees: Trees | None = None,
        **values: Any,
    ) -> None:
        """Measure and log the step; the state is not looked at."""
        self._observer.step(step, given, values=values, timings=timings, batch=batch, trees=trees)


class ValidateCallback:
    """Validates the policy on held-out data when that is due, on a snapshot of the state's parameters."""

    def __init__(self, observer: Observer, answer: Answer) -> None:
        self._observer = observer
        self._answer = answer

    def __call__(self, step: int, state: Any, given: Given | None = None, **_: Any) -> None:
        """Validate the policy after `step + 1` updates, if that is due; training goes on meanwhile."""
        self._observer.validate(step + 1, policy_of(state, self._answer))


def loop_callbacks(observer: Observer, answer: Answer | None = None) -> list[LoopCallback]:
    """The callbacks of a Flax loop; with `answer` they validate the policy, on the observer's held-out data."""
    steps: list[LoopCallback] = [StepCallback(observer)]
    return steps if answer is None else [*steps, ValidateCallback(observer, answer)]


def policy_of(state: Any, answer: Answer) -> FunctionPolicy:
    """The policy of a linen `TrainState`, of an NNX model, or of an NNX state that has one in `model`.

    Its snapshot is a copy, so the next step may donate the state. `answer` gets the parameters of a linen model, and
    of NNX a model of its own. Only a snapshot looks at the state; it raises `TypeError` for a state of another kind.
    """
    model = state if isinstance(state, nnx.Module) else getattr(state, "model", None)
    if isinstance(model, nnx.Module):
        return FunctionPolicy(lambda split, prompts: answer(nnx.merge(*split), prompts), lambda: nnx.split(model))
    return FunctionPolicy(answer, lambda: _parameters(state))


def _parameters(state: Any) -> Any:
    if not hasattr(state, "params"):
        raise TypeError(f"a {type(state).__name__} has neither params, as a TrainState, nor an nnx.Module in model")
    return state.params
