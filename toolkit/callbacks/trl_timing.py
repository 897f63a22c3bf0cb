"""How long the phases of a step and each reward function take, by the host's clock."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable
from functools import partial, wraps
from time import perf_counter
from typing import Any

import torch

from toolkit.callbacks.methods import Level, Methods
from toolkit.callbacks.naming import unique

_PHASES = {
    "_generate": "generation_s",
    "_calculate_rewards": "reward_s",
    "_generate_and_score_completions": "scoring_s",
    "training_step": "training_step_s",
}
"""The methods that are timed, and what their time is called here."""


class Timing:
    """Seconds of a trainer between `attach` and `detach`, by phase and by reward function; `take` ends a step.

    Evaluation does not count. Where work is queued on an accelerator, it counts in the phase that waits for it.
    """

    def __init__(self, trainer: Any, methods: Methods) -> None:
        self._trainer = trainer
        self._methods = methods
        self._phases = Level("time of phases")
        self._rewards = Level("time of reward functions")
        self._functions: tuple[Any, Any] | None = None
        self.forget()

    def attach(self) -> None:
        """Time the phases, and each reward function under its own name."""
        for method, phase in _PHASES.items():
            self._methods.time(method, self._phases, partial(self._add, phase))
        self._rewards.tried("reward_funcs are not what was expected", self._replace_functions)

    def detach(self) -> None:
        """Give the trainer its reward functions back, unless it has got others since."""
        if self._functions and getattr(self._trainer, "reward_funcs", None) is self._functions[1]:
            self._trainer.reward_funcs = self._functions[0]
        self._functions = None

    def forget(self) -> None:
        """Drop what was timed since the last step."""
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._latencies: defaultdict[str, float] = defaultdict(float)

    def latencies(self) -> dict[str, float]:
        """The seconds of the reward functions since the last step."""
        return dict(self._latencies)

    def take(self) -> dict[str, float]:
        """The seconds of the phases since the last step, as the next one begins now."""
        seconds = self._seconds
        self.forget()
        if not self._phases.on:
            return {}
        phases = {name: seconds[name] for name in ("generation_s", "reward_s") if name in seconds}
        if "training_step_s" in seconds:  # it contains the generation, and the optimiser comes after it
            phases["train_s"] = seconds["training_step_s"] - seconds["scoring_s"]
        return phases

    def _replace_functions(self) -> None:
        before = self._trainer.reward_funcs
        names = unique(self._trainer.reward_func_names)
        # A list of our own: the trainer's may be the user's.
        timed = [self._timed(name, function) for name, function in zip(names, before, strict=True)]
        self._trainer.reward_funcs = timed
        self._functions = before, timed

    def _add(self, phase: str, seconds: float) -> None:
        if self._trainer.model.training:
            self._seconds[phase] += seconds

    def _timed(self, name: str, function: Any) -> Any:
        """The function as its caller knows it, with its seconds added up under the name; a reward model as it is."""
        if isinstance(function, torch.nn.Module):
            return function

        def add(began: float) -> None:
            seconds = perf_counter() - began
            self._rewards.tried("the trainer is not what was expected", lambda: self._add_latency(name, seconds))

        return _timed_async(function, add) if _is_async(function) else _timed(function, add)

    def _add_latency(self, name: str, seconds: float) -> None:
        if self._trainer.model.training:
            self._latencies[name] += seconds


def _timed(function: Callable[..., Any], add: Callable[[float], None]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        began = perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            add(began)

    return timed


def _timed_async(function: Callable[..., Any], add: Callable[[float], None]) -> Callable[..., Any]:
    @wraps(function)
    async def timed(*arguments: Any, **named: Any) -> Any:
        began = perf_counter()
        try:
            return await function(*arguments, **named)
        finally:
            add(began)

    return timed


def _is_async(function: Any) -> bool:
    """Whether a call gives a coroutine; the host finds the same of the functions it was given."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004
