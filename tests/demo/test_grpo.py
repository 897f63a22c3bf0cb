"""A step and a short run of GRPO, with a tiny untrained model."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from toolkit.callbacks.observer import Observer
from toolkit.demo.grpo import GRPOConfig, TrainState, start, train, train_step
from toolkit.demo.model import Decoder
from toolkit.demo.task import heldout_problems, training_problems
from toolkit.demo.tokenizer import COMPLETION_LENGTH
from toolkit.logger import Logger
from toolkit.rollout import Rollout
from toolkit.validation.policy import Policy

PROBLEMS = training_problems()[:4]
HELD_OUT = [problem.prompt for problem in heldout_problems(4)]
TINY = GRPOConfig(steps=3, prompts=2, group_size=4, minibatches=2, learning_rate=1e-3)


class Recorder(Observer):
    """An observer that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__(Logger([]), [])
        self.rollouts: list[Rollout] = []
        self.losses: list[float] = []
        self.asked: list[tuple[int, bool]] = []
        self.policies: list[tuple[Policy, Sequence[str]]] = []

    def step(self, step: int, rollout: Any = None, **given: Any) -> None:
        """Keep the rollout and its loss."""
        assert step == len(self.rollouts)
        self.rollouts.append(rollout)
        self.losses.append(float(given["values"]["loss"]))

    def validate(self, step: int, policy: Policy, *, always: bool = False, at_end_of_step: bool = False) -> bool:
        """Keep a snapshot of the policy and what it answers now."""
        self.asked.append((step, always))
        self.policies.append((policy.snapshot(), policy.generate(HELD_OUT)))
        return True


def trained(seed: int) -> Recorder:
    """What an observer saw of three steps."""
    with Recorder() as recorder:
        train(Decoder(rngs=nnx.Rngs(0)), replace(TINY, seed=seed), recorder)
    return recorder


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    """What an observer saw of three steps with seed 0."""
    return trained(0)


@pytest.fixture(scope="module")
def first_step() -> tuple[TrainState, Rollout]:
    """State and rollout of the first step of an untrained model."""
    state = start(Decoder(rngs=nnx.Rngs(0)), TINY)
    return train_step(state, PROBLEMS[:2], TINY)


def test_a_run_is_the_same_for_the_same_seed_only(recorder: Recorder) -> None:
    """Two runs with one seed agree bit for bit in completions, logprobs and losses; another seed differs."""
    same, other = trained(0), trained(1)
    assert recorder.losses == same.losses
    assert recorder.losses != other.losses
    for one, two in zip(recorder.rollouts, same.rollouts, strict=True):
        assert one.completions == two.completions
        np.testing.assert_array_equal(one.logp, two.logp)


def test_an_observer_sees_every_step_and_every_policy(recorder: Recorder) -> None:
    """It may validate the policy before each step, and is asked to after the last one."""
    assert len(recorder.rollouts) == 3
    assert recorder.asked == [(0, False), (1, False), (2, False), (3, True)]


def test_training_does_not_change_a_snapshot(recorder: Recorder) -> None:
    """A policy still answers as when it was taken, although later steps donated the model's buffers."""
    answers = [before for _, before in recorder.policies]
    assert [policy.generate(HELD_OUT) for policy, _ in recorder.policies] == answers
    assert answers[0] != answers[-1]


def test_a_rollout_has_a_row_a_completion(first_step: tuple[TrainState, Rollout]) -> None:
    """Its fields agree on batch and time, and prompts and references are repeated for their group."""
    _, rollout = first_step
    assert rollout.prompts == [problem.prompt for problem in PROBLEMS[:2] for _ in range(4)]
    assert rollout.references == [problem.reference for problem in PROBLEMS[:2] for _ in range(4)]
    by_token = ("mask", "logp", "old_logp", "ref_logp", "sampler_logp", "entropy")
    assert {getattr(rollout, name).shape for name in by_token} == {(8, COMPLETION_LENGTH)}
    assert {np.asarray(reward).shape for reward in rollout.rewards.values()} == {(8,)}
    assert set(rollout.timings or ()) == {"generation_s", "reward_s", "train_s"}


def test_advantages_are_of_the_weighted_rewards(first_step: tuple[TrainState, Rollout]) -> None:
    """They average to 0 in each group and rise with the weighted total."""
    _, rollout = first_step
    assert rollout.weights is not None
    total = sum(rollout.weights[name] * np.asarray(values) for name, values in rollout.rewards.items())
    for rewards, advantages in zip(np.split(total, 2), np.split(np.asarray(rollout.advantages), 2), strict=True):
        np.testing.assert_allclose(advantages.mean(), 0.0, atol=1e-4)
        np.testing.assert_array_equal(np.argsort(rewards, kind="stable"), np.argsort(advantages, kind="stable"))


def test_the_second_minibatch_sees_an_updated_policy(first_step: tuple[TrainState, Rollout]) -> None:
    """The ratio is 1 in the first half of the rows and not in the second; the old policy is the reference."""
    _, rollout = first_step
    drift = np.abs(np.asarray(rollout.logp) - np.asarray(rollout.old_logp))
    np.testing.assert_allclose(drift[:4], 0.0, atol=1e-5)
    assert np.max(drift[4:]) > 1e-3
    np.testing.assert_array_equal(rollout.old_logp, rollout.ref_logp)


def test_the_reference_stays_while_the_model_moves(first_step: tuple[TrainState, Rollout]) -> None:
    """Steps change every parameter of the model in place, never the reference policy."""
    state, _ = first_step
    untrained = jax.tree.leaves(nnx.state(Decoder(rngs=nnx.Rngs(0))))
    for leaf, start_leaf in zip(jax.tree.leaves(nnx.state(state.reference)), untrained, strict=True):
        np.testing.assert_array_equal(leaf, start_leaf)
    for leaf, start_leaf in zip(jax.tree.leaves(nnx.state(state.model)), untrained, strict=True):
        assert np.any(leaf != start_leaf)


def test_nothing_is_compiled_after_the_first_step(
    first_step: tuple[TrainState, Rollout], caplog: pytest.LogCaptureFixture
) -> None:
    """The shapes of a step never change, so the second one runs compiled code only."""
    state, _ = first_step
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        train_step(replace(state), PROBLEMS[2:4], TINY)
    assert not [message for message in caplog.messages if "ompil" in message]
