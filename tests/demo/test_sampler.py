"""Completions as drawn, and policies that answer greedily."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import Array, Int

from toolkit.demo.model import Decoder, completion_logits
from toolkit.demo.objective import token_stats
from toolkit.demo.sampler import Samples, generate, greedy_completions
from toolkit.demo.task import training_problems
from toolkit.demo.tokenizer import END, PAD

Prompts = Int[Array, "batch prompt_time"]

stats_of = nnx.jit(token_stats)


def drawn(
    model: Decoder, prompts: Prompts, seed: int = 0, temperature: float = 1.0, dtype: Any = jnp.bfloat16
) -> Samples:
    """Completions of the untrained model."""
    graph, params = nnx.split(model)
    samples: Samples = generate(graph, params, prompts, jax.random.key(seed), temperature, dtype)
    return samples


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.1)])
def test_sampler_logprobs_are_the_trainers(model: Decoder, prompts: Prompts, dtype: Any, tolerance: float) -> None:
    """The cached sampler and the trainer's forward pass agree, up to the precision of the sampler."""
    samples = drawn(model, prompts, dtype=dtype)
    logp = stats_of(model, prompts, samples.tokens).logp
    np.testing.assert_allclose(jnp.where(samples.mask, logp, 0.0), samples.logp, atol=tolerance)


def test_a_bfloat16_sampler_differs_a_little(model: Decoder, prompts: Prompts) -> None:
    """The mismatch that observers measure is there."""
    samples = drawn(model, prompts)
    logp = stats_of(model, prompts, samples.tokens).logp
    assert 1e-5 < jnp.mean(jnp.abs(logp - samples.logp), where=samples.mask) < 0.05


def test_the_mask_ends_with_the_end_token(model: Decoder, prompts: Prompts) -> None:
    """A completion counts up to its first end token, then padding follows; without one it is truncated."""
    samples = drawn(model, prompts)
    tokens, mask = np.asarray(samples.tokens), np.asarray(samples.mask)
    ends = np.cumsum(tokens == END, axis=1)
    np.testing.assert_array_equal(mask, (ends == 0) | ((ends == 1) & (tokens == END)))
    np.testing.assert_array_equal(samples.truncated, ends[:, -1] == 0)
    assert np.all(tokens[~mask] == PAD)
    assert 0 < np.sum(ends[:, -1]) < len(tokens)


def test_temperature_zero_takes_the_likeliest_token(model: Decoder, prompts: Prompts) -> None:
    """Greedy decoding ignores the key and follows the largest logits."""
    samples = drawn(model, prompts, seed=1, temperature=0.0, dtype=jnp.float32)
    again = drawn(model, prompts, seed=2, temperature=0.0, dtype=jnp.float32)
    likeliest = jnp.argmax(nnx.jit(completion_logits)(model, prompts, samples.tokens), axis=-1)
    np.testing.assert_array_equal(samples.tokens, again.tokens)
    np.testing.assert_array_equal(samples.tokens, jnp.where(samples.mask, likeliest, PAD))


def test_the_key_decides_the_draw(model: Decoder, prompts: Prompts) -> None:
    """The same key draws the same completions, another key others."""
    first = drawn(model, prompts, seed=1)
    np.testing.assert_array_equal(first.tokens, drawn(model, prompts, seed=1).tokens)
    assert jnp.any(first.tokens != drawn(model, prompts, seed=2).tokens)


def test_a_policy_answers_any_number_of_prompts(model: Decoder) -> None:
    """Padding to the bucket and cutting into buckets change no answer."""
    prompts = [problem.prompt for problem in training_problems()[:5]]
    answers = partial(greedy_completions, *nnx.split(model), bucket=3)
    assert answers([]) == []
    assert answers(prompts) == [answers([prompt])[0] for prompt in prompts]
