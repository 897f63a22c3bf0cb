"""Times of phases and reward functions: whose they are, and that nobody notices."""

import asyncio
import inspect
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from toolkit.callbacks.methods import Methods
from toolkit.callbacks.trl_timing import Timing


class Host:
    """A trainer whose step generates, scores and learns; it calls its reward functions as TRL does."""

    def __init__(self, *functions: Any) -> None:
        self.model = SimpleNamespace(training=True)
        self.reward_funcs = list(functions)
        self.reward_func_names = [getattr(function, "__name__", "nameless") for function in functions]

    def _generate(self, prompts: Any) -> None:
        spin()

    def _calculate_rewards(self) -> list[Any]:
        return [
            asyncio.run(function()) if inspect.iscoroutinefunction(function) else function()
            for function in self.reward_funcs
        ]

    def _generate_and_score_completions(self, inputs: Any) -> list[Any]:
        self._generate(inputs)
        return self._calculate_rewards()

    def training_step(self, model: Any, inputs: Any) -> list[Any]:
        rewards = self._generate_and_score_completions(inputs)
        spin()
        return rewards


def spin() -> None:
    sum(range(2000))


def plain() -> str:
    spin()
    return "plain"


async def patient() -> str:
    spin()
    return "patient"


def timing_of(host: Host) -> Timing:
    timing = Timing(host, Methods(host))
    timing.attach()
    return timing


def test_each_function_and_phase_has_its_time() -> None:
    """Functions of every kind give what they give, and their seconds stand under names of their own."""
    host = Host(plain, patient, partial(plain), partial(patient), plain)
    timing = timing_of(host)
    assert host.training_step(None, []) == ["plain", "patient", "plain", "patient", "plain"]
    latencies, phases = timing.latencies(), timing.take()
    assert list(latencies) == ["plain", "patient", "nameless", "nameless#2", "plain#2"]
    assert list(phases) == ["generation_s", "reward_s", "train_s"]
    assert all(seconds > 0 for seconds in (*phases.values(), *latencies.values()))
    assert sum(latencies.values()) < phases["reward_s"]
    assert timing.latencies() == timing.take() == {}


def test_functions_keep_what_the_host_looks_at() -> None:
    """A timed function has its name and is async where it was; a reward model is not touched, nor the user's list."""
    model = torch.nn.Linear(1, 1)
    host = Host(plain, patient, model)
    before = host.reward_funcs
    timing = timing_of(host)
    assert [function.__name__ for function in host.reward_funcs[:2]] == ["plain", "patient"]
    assert [inspect.iscoroutinefunction(function) for function in host.reward_funcs] == [False, True, False]
    assert host.reward_funcs[2] is model
    assert before == [plain, patient, model]
    timing.detach()
    assert host.reward_funcs is before


def test_evaluation_is_not_timed() -> None:
    """What an evaluation generates and scores is in no time of a step."""
    host = Host(plain)
    timing = timing_of(host)
    host.model.training = False
    host._generate_and_score_completions([])
    assert timing.latencies() == timing.take() == {}


def test_an_error_of_a_function_is_its_own() -> None:
    """What a reward function raises reaches the host, and its time is counted all the same."""

    def broken() -> str:
        raise ValueError("broken")

    host = Host(broken)
    timing = timing_of(host)
    with pytest.raises(ValueError, match="broken"):
        host.training_step(None, [])
    assert list(timing.latencies()) == ["broken"]
