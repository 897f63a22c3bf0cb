"""The supervised warm-up: it makes a random model a base policy that knows how to add but has bad habits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from toolkit.demo import example
from toolkit.demo.example import Writer
from toolkit.demo.model import Decoder, completion_logits
from toolkit.demo.task import training_problems
from toolkit.demo.tokenizer import PAD, encode_completions, encode_prompts

# Called with the steps done so far, all steps, and the mean loss of the last chunk in nats a token.
Progress: TypeAlias = Callable[[int, int, float], None]

_Carry: TypeAlias = tuple[Decoder, nnx.Optimizer[Decoder]]


@dataclass(frozen=True, slots=True)
class WarmupConfig:
    """The settings of a warm-up; steps are rounded up to whole chunks, the learning rate is its peak."""

    seed: int = 0
    worked_steps: int = 800
    mixed_steps: int = 200
    batch: int = 64
    learning_rate: float = 3e-3
    # Steps a compiled call: Python, and so an interrupt, has its turn about once a second.
    chunk: int = 50
    examples_per_problem: int = 4


class Examples(NamedTuple):
    """Prompts and their completions, row by row."""

    prompts: Int[Array, "batch prompt_time"]
    completions: Int[Array, "batch time"]


def warm_up(config: WarmupConfig, progress: Progress | None = None) -> Decoder:
    """A base policy, trained from random parameters by next-token prediction; it depends on `config` only."""
    rng = np.random.default_rng(config.seed)
    worked = written_examples(example.worked, config.examples_per_problem, rng)
    mixed = written_examples(example.mixed, config.examples_per_problem, rng)
    model = Decoder(rngs=nnx.Rngs(config.seed))
    steps = config.worked_steps + config.mixed_steps
    optimizer = nnx.Optimizer(model, _transformation(config.learning_rate, steps), wrt=nnx.Param)
    keys = jax.random.split(jax.random.key(config.seed), -(-steps // config.chunk))
    for chunk, key in enumerate(keys):
        done = chunk * config.chunk
        examples = worked if done < config.worked_steps else mixed
        loss = train_chunk(model, optimizer, examples, key, config)
        # Without this wait all chunks would be queued at once, and an interrupt would come too late.
        loss.block_until_ready()
        if progress is not None:
            progress(min(done + config.chunk, steps), steps, float(loss))
    return model


def written_examples(writer: Writer, count: int, rng: np.random.Generator) -> Examples:
    """`count` completions of every training problem."""
    problems = training_problems() * count
    prompts = encode_prompts([problem.prompt for problem in problems])
    completions = encode_completions([writer(problem, rng) for problem in problems])
    return Examples(jnp.asarray(prompts), jnp.asarray(completions))


def _transformation(learning_rate: float, steps: int) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, steps // 20, steps, learning_rate / 30)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))


@nnx.jit(static_argnames=("config",))
def train_chunk(
    model: Decoder,
    optimizer: nnx.Optimizer[Decoder],
    examples: Examples,
    key: Key[Array, ""],
    config: WarmupConfig,
) -> Float[Array, ""]:
    """The mean loss of `config.chunk` steps on random rows of `examples`; they change model and optimizer."""
    rows = jax.random.randint(key, (config.chunk, config.batch), 0, len(examples.prompts))

    @nnx.scan
    def step(carry: _Carry, rows: Int[Array, " batch"]) -> tuple[_Carry, Float[Array, ""]]:
        model, optimizer = carry
        batch = Examples(examples.prompts[rows], examples.completions[rows])
        loss, gradients = nnx.value_and_grad(next_token_loss)(model, batch)
        optimizer.update(model, gradients)
        return carry, loss

    _, losses = step((model, optimizer), rows)
    return jnp.mean(losses)


def next_token_loss(model: Decoder, batch: Examples) -> Float[Array, ""]:
    """The mean cross-entropy of the completions' tokens, in nats a token."""
    logits = completion_logits(model, batch.prompts, batch.completions)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.completions)
    return jnp.mean(losses, where=batch.completions != PAD)
