"""Advantages, divergence and loss against values worked by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jaxtyping import Array, Float, Int

from toolkit.demo.model import Decoder
from toolkit.demo.objective import Batch, group_advantages, grpo_loss, kl_divergence, token_stats
from toolkit.demo.tokenizer import COMPLETION_LENGTH, TOKENS

CLIP, KL_WEIGHT = 0.2, 0.02

Prompts = Int[Array, "batch prompt_time"]

stats_of = nnx.jit(token_stats)
loss_of = nnx.jit(grpo_loss, static_argnums=(2, 3))
gradient = nnx.jit(nnx.grad(grpo_loss, has_aux=True), static_argnums=(2, 3))


@pytest.fixture
def batch(model: Decoder, prompts: Prompts) -> Batch:
    """Random completions of two lengths, as the model itself and as its reference see them."""
    completions = jax.random.randint(jax.random.key(1), (len(prompts), COMPLETION_LENGTH), 0, len(TOKENS))
    lengths = jnp.where(jnp.arange(len(prompts)) % 2 == 0, 5, COMPLETION_LENGTH)
    mask = jnp.arange(COMPLETION_LENGTH)[None, :] < lengths[:, None]
    advantages = jax.random.normal(jax.random.key(2), (len(prompts),))
    logp = stats_of(model, prompts, completions).logp
    return Batch(prompts, completions, mask, advantages, logp, logp)


def gradient_norm(gradients: nnx.State[Any, Any]) -> float:
    """The Euclidean norm over all parameters."""
    return float(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradients)) ** 0.5)


def test_advantages_by_hand() -> None:
    """Rewards 0, 0, 1, 1 lie half a point from their mean, which is one standard deviation."""
    advantages = group_advantages(jnp.array([0.0, 0.0, 1.0, 1.0, 2.0, 4.0, 6.0, 8.0]), 4)
    expected = [-1, -1, 1, 1, -3 / 5**0.5, -1 / 5**0.5, 1 / 5**0.5, 3 / 5**0.5]
    np.testing.assert_allclose(advantages, expected, rtol=1e-3)


def test_a_group_without_variance_has_no_advantage() -> None:
    """Equal rewards prefer nothing, and rounding errors among them are not blown up."""
    advantages = group_advantages(jnp.array([1.0, 1.0, 0.1 + 0.2, 0.3]), 2)
    np.testing.assert_allclose(advantages, 0.0, atol=1e-3)


def test_entropy_of_a_uniform_policy(model: Decoder, prompts: Prompts) -> None:
    """A policy with equal logits has the logarithm of the vocabulary as its entropy."""
    model.head.kernel[...] = jnp.zeros_like(model.head.kernel[...])
    completions = jnp.zeros((len(prompts), COMPLETION_LENGTH), jnp.int32)
    stats = stats_of(model, prompts, completions)
    np.testing.assert_allclose(stats.entropy, np.log(len(TOKENS)), rtol=1e-5)
    np.testing.assert_allclose(stats.logp, -np.log(len(TOKENS)), rtol=1e-5)


def test_kl_divergence_by_hand() -> None:
    """The estimate is 0 for equal policies and 2 - 1 - ln 2 where the reference is twice as likely."""
    logp = jnp.log(jnp.array([[0.3, 0.25, 0.5]]))
    ref_logp = jnp.log(jnp.array([[0.3, 0.5, 0.25]]))
    expected = [[0.0, 1 - np.log(2), -0.5 + np.log(2)]]
    np.testing.assert_allclose(kl_divergence(logp, ref_logp), expected, atol=1e-6)


def test_the_kl_estimate_is_unbiased() -> None:
    """Averaged over the policy's own tokens it is the KL divergence."""
    policy, reference = jax.nn.log_softmax(jax.random.normal(jax.random.key(3), (2, 1, 50)))
    exact = jnp.sum(jnp.exp(policy) * (policy - reference))
    np.testing.assert_allclose(jnp.sum(jnp.exp(policy) * kl_divergence(policy, reference)), exact, rtol=1e-4)


def test_before_the_first_update_the_loss_is_the_mean_advantage(model: Decoder, batch: Batch) -> None:
    """Where nothing has changed every ratio is 1 and the divergence 0, so only the advantages are left."""
    loss, stats = loss_of(model, batch, CLIP, KL_WEIGHT)
    np.testing.assert_allclose(stats.logp, batch.old_logp, atol=1e-6)
    np.testing.assert_allclose(loss, -jnp.mean(batch.advantages), atol=1e-5)


def test_the_first_gradient_is_the_policy_gradient(model: Decoder, batch: Batch) -> None:
    """At a ratio of 1 the gradient is that of the advantage times the logprob."""

    def policy_gain(model: Decoder) -> Float[Array, ""]:
        logp = token_stats(model, batch.prompts, batch.completions).logp
        return -jnp.mean(jnp.mean(batch.advantages[:, None] * logp, axis=1, where=batch.mask))

    gradients, _ = gradient(model, batch, CLIP, KL_WEIGHT)
    expected = nnx.jit(nnx.grad(policy_gain))(model)
    assert gradient_norm(expected) > 1e-3
    for leaf, wanted in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(leaf, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("advantage", "shift", "moves"), [(1, 0.5, False), (1, -0.5, True), (-1, 0.5, True), (-1, -0.5, False)]
)
def test_a_ratio_gains_nothing_beyond_the_clip(
    model: Decoder, batch: Batch, advantage: float, shift: float, moves: bool
) -> None:
    """A ratio that has already moved too far the right way has no gradient; the wrong way it has."""
    moved = batch._replace(advantages=jnp.full_like(batch.advantages, advantage), old_logp=batch.old_logp - shift)
    gradients, _ = gradient(model, moved, CLIP, 0.0)
    assert (gradient_norm(gradients) > 1e-6) == moves


def test_tokens_outside_the_mask_do_not_count(model: Decoder, batch: Batch) -> None:
    """What follows the end of a completion changes nothing."""
    loss, _ = loss_of(model, batch, CLIP, KL_WEIGHT)
    altered = batch._replace(ref_logp=jnp.where(batch.mask, batch.ref_logp, -30.0))
    np.testing.assert_array_equal(loss, loss_of(model, altered, CLIP, KL_WEIGHT)[0])
