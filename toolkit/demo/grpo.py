"""Group Relative Policy Optimization of a Flax model: sample, score, update.

Rewards are given to decoded text on the host; everything else is compiled once, for shapes that never change.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from toolkit.callbacks.observer import Observer
from toolkit.demo.model import Decoder
from toolkit.demo.objective import Batch, TokenStats, group_advantages, grpo_loss, token_stats
from toolkit.demo.reward import REWARDS, WEIGHTS
from toolkit.demo.sampler import Samples, generate, policy
from toolkit.demo.task import Problem, draw, training_problems
from toolkit.demo.tokenizer import decode, encode_prompts
from toolkit.rollout import Rollout

_Carry: TypeAlias = tuple[Decoder, nnx.Optimizer[Decoder]]


@dataclass(frozen=True, slots=True)
class GRPOConfig:
    """The settings of a run: `prompts` x `group_size` completions a step, one update a minibatch."""

    seed: int = 0
    steps: int = 80
    prompts: int = 32
    group_size: int = 8
    minibatches: int = 4
    learning_rate: float = 4e-5
    clip: float = 0.2
    kl_weight: float = 0.02


@dataclass(frozen=True, slots=True)
class TrainState:
    """What training changes: model and optimizer in place, key and loss by new ones; never the reference."""

    model: Decoder
    optimizer: nnx.Optimizer[Decoder]
    reference: Decoder
    key: Key[Array, ""]
    loss: Float[Array, ""]


def train(model: Decoder, config: GRPOConfig, observer: Observer) -> TrainState:
    """Train `model` in place and return the last state; a seed always gives the same losses, bit for bit."""
    state, greedy = start(model, config), policy(model)
    problems = training_problems()
    observer.start(total_steps=config.steps)
    done = 0
    for step in range(config.steps):
        observer.validate(step, greedy)
        batch = draw(problems, config.prompts, np.random.default_rng([config.seed, step]))
        state, rollout = train_step(state, batch, config)
        observer.step(step, rollout, values={"loss": state.loss})
        done = step + 1
        if observer.asks.stop:
            break
    observer.validate(done, greedy, always=True)
    return state


def start(model: Decoder, config: GRPOConfig) -> TrainState:
    """The state before the first step. The model as it is now is also the reference policy."""
    optimizer = nnx.Optimizer(model, optax.adam(config.learning_rate), wrt=nnx.Param)
    # A real copy, because `update` donates the buffers of the model.
    reference = nnx.merge(*jax.tree.map(jnp.copy, nnx.split(model)))
    return TrainState(model, optimizer, reference, jax.random.key(config.seed), jnp.zeros(()))


def train_step(state: TrainState, problems: Sequence[Problem], config: GRPOConfig) -> tuple[TrainState, Rollout]:
    """One step: a group of completions for each problem, their rewards, and the updates that follow."""
    prompts = [problem.prompt for problem in problems for _ in range(config.group_size)]
    references = [problem.reference for problem in problems for _ in range(config.group_size)]
    key, sample_key = jax.random.split(state.key)
    times = [time.perf_counter()]
    tokens = jnp.asarray(encode_prompts(prompts))
    samples, completions = sample(state.model, tokens, sample_key)
    times.append(time.perf_counter())
    rewards = score(prompts, completions, references)
    times.append(time.perf_counter())
    loss, batch, stats = update(state.model, state.optimizer, state.reference, tokens, samples, rewards, config)
    # The next step would wait for this one anyway; waiting here makes the times of both honest.
    loss.block_until_ready()
    times.append(time.perf_counter())
    rollout = Rollout(
        rewards=rewards,
        weights=WEIGHTS,
        advantages=batch.advantages,
        group_size=config.group_size,
        mask=samples.mask,
        logp=stats.logp,
        old_logp=batch.old_logp,
        ref_logp=batch.ref_logp,
        sampler_logp=samples.logp,
        entropy=stats.entropy,
        truncated=samples.truncated,
        prompts=prompts,
        completions=completions,
        references=references,
        timings=dict(zip(("generation_s", "reward_s", "train_s"), np.diff(times).tolist(), strict=True)),
    )
    return replace(state, key=key, loss=loss), rollout


def sample(model: Decoder, prompts: Int[Array, "batch prompt_time"], key: Key[Array, ""]) -> tuple[Samples, list[str]]:
    """One completion for each prompt, as arrays and as text."""
    graph, params = nnx.split(model)
    samples = generate(graph, params, prompts, key)
    return samples, [decode(row) for row in np.asarray(samples.tokens).tolist()]


def score(
    prompts: Sequence[str], completions: Sequence[str], references: Sequence[str]
) -> dict[str, Float[Array, " batch"]]:
    """The rewards of each completion, by the name of the reward function."""
    return {
        name: jnp.asarray(reward(prompts, completions, references), dtype=jnp.float32)
        for name, reward in REWARDS.items()
    }


@nnx.jit(static_argnames=("config",), donate_argnames=("model", "optimizer"))
def update(
    model: Decoder,
    optimizer: nnx.Optimizer[Decoder],
    reference: Decoder,
    prompts: Int[Array, "batch prompt_time"],
    samples: Samples,
    rewards: dict[str, Float[Array, " batch"]],
    config: GRPOConfig,
) -> tuple[Float[Array, ""], Batch, TokenStats]:
    """One optimizer step for each minibatch of consecutive rows, which changes model and optimizer.

    Returns the mean loss, the whole batch, and its token statistics as the loss saw them, row by row.
    """
    total = sum((WEIGHTS[name] * reward for name, reward in rewards.items()), jnp.zeros(len(prompts)))
    advantages = group_advantages(total, config.group_size)
    old_logp = token_stats(model, prompts, samples.tokens).logp
    ref_logp = token_stats(reference, prompts, samples.tokens).logp
    batch = Batch(prompts, samples.tokens, samples.mask, advantages, old_logp, ref_logp)
    minibatches = jax.tree.map(lambda rows: rows.reshape(config.minibatches, -1, *rows.shape[1:]), batch)

    @nnx.scan
    def step(carry: _Carry, minibatch: Batch) -> tuple[_Carry, tuple[Float[Array, ""], TokenStats]]:
        model, optimizer = carry
        gradient = nnx.value_and_grad(grpo_loss, has_aux=True)
        (loss, stats), gradients = gradient(model, minibatch, config.clip, config.kl_weight)
        optimizer.update(model, gradients)
        return carry, (loss, stats)

    _, (losses, stats) = step((model, optimizer), minibatches)
    return jnp.mean(losses), batch, jax.tree.map(lambda rows: rows.reshape(-1, *rows.shape[2:]), stats)
