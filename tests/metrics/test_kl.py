"""Divergences against their formulas, in the right direction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.kl import k1, k2, k3, kl_metrics

SHAPE = (6, 8)


@jax.jit
def jitted(logp: Array, other_logp: Array, mask: Array) -> dict[str, Array]:
    """The finished metrics."""
    return values(kl_metrics("kl", logp, other_logp, mask))


def measured(logp: np.ndarray, other_logp: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The metrics under jit, from NumPy arrays."""
    found = jitted(jnp.asarray(logp, jnp.float32), jnp.asarray(other_logp, jnp.float32), jnp.asarray(mask))
    return {key: float(value) for key, value in found.items()}


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logprobs of two policies near each other, and a mask."""
    random = np.random.default_rng(seed)
    logp = -random.gamma(1.0, 1.0, SHAPE)
    return logp, logp + random.normal(0, 0.3, SHAPE), random.random(SHAPE) < 0.8


@pytest.mark.parametrize("seed", range(4))
def test_divergences_are_their_formulas(seed: int) -> None:
    """In float64 by NumPy, with log r = other - logp."""
    logp, other_logp, mask = draw(seed)
    log_ratio = (other_logp - logp)[mask]
    expected = {
        "kl_k1": np.mean(-log_ratio),
        "kl_k2": np.mean(log_ratio**2 / 2),
        "kl_k3": np.mean(np.exp(log_ratio) - 1 - log_ratio),
        "kl_clamped_fraction": 0,
    }
    assert measured(logp, other_logp, mask) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_divergences_by_hand() -> None:
    """Where the other is twice as likely, log r = ln 2."""
    mask = np.zeros(SHAPE, bool)
    mask[2, 3] = True
    found = measured(np.full(SHAPE, np.log(0.25)), np.full(SHAPE, np.log(0.5)), mask)
    expected = {
        "kl_k1": -np.log(2), "kl_k2": np.log(2) ** 2 / 2, "kl_k3": 1 - np.log(2), "kl_clamped_fraction": 0
    }  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-6)


def test_k1_and_k3_are_unbiased_and_k2_is_near() -> None:
    """Averaged over tokens drawn from the policy they are the exact KL divergence."""
    random = np.random.default_rng(0)
    policy_logp, other_logp = (np.log(random.dirichlet(np.full(12, 3.0))) for _ in range(2))
    other_logp = np.logaddexp(policy_logp + np.log(0.7), other_logp + np.log(0.3))
    exact = np.sum(np.exp(policy_logp) * (policy_logp - other_logp))
    drawn = random.choice(12, 200_000, p=np.exp(policy_logp))
    log_ratio = jnp.asarray((other_logp - policy_logp)[drawn], jnp.float32)
    for estimate in (k1, k2, k3):
        np.testing.assert_allclose(np.mean(estimate(log_ratio)), exact, rtol=0.1, err_msg=estimate.__name__)
    assert float(jnp.min(k3(log_ratio))) >= 0


def test_small_divergences_keep_their_digits() -> None:
    """k3 of a log ratio of 0.001 is 5e-7: exp(x) - 1 - x in float32 would leave nothing right of it."""
    for log_ratio in (1e-3, -1e-3, 1e-2):
        assert float(k3(jnp.float32(log_ratio))) == pytest.approx(np.expm1(log_ratio) - log_ratio, rel=2e-3)


def test_log_ratios_are_clamped_and_the_clamped_are_counted() -> None:
    """Beyond 20 an exponential would drown all other tokens; an infinite logprob counts as clamped, NaN not at all."""
    logp, other_logp, _ = draw(0)
    mask = np.zeros(SHAPE, bool)
    mask[0, :5] = True
    logp[0, :5] = [-1.0, -1.0, -1.0, -1.0, np.nan]
    other_logp[0, :5] = [-1.0, -1.0, -31.0, -np.inf, -1.0]
    expected = {
        "kl_k1": 40 / 4, "kl_k2": 400 / 4, "kl_k3": 2 * (np.exp(-20) - 1 + 20) / 4, "kl_clamped_fraction": 0.5
    }  # fmt: skip
    assert measured(logp, other_logp, mask) == pytest.approx(expected)


@pytest.mark.parametrize("impossible", ["in one", "in both"])
def test_a_token_that_is_impossible_in_both_has_no_ratio(impossible: str) -> None:
    """-inf minus -inf tells nothing and is left out; -inf in one of the two is as far as the clamp goes."""
    logp, other_logp = np.full(SHAPE, -1.0), np.full(SHAPE, -1.0)
    other_logp[0, 0] = -np.inf
    if impossible == "in both":
        logp[0, 0] = -np.inf
    found = measured(logp, other_logp, np.ones(SHAPE, bool))
    assert found["kl_k1"] == pytest.approx(20 / 48 if impossible == "in one" else 0)
    assert found["kl_clamped_fraction"] == pytest.approx(1 / 48 if impossible == "in one" else 0)


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_nothing_to_compare_has_no_value(fill: float) -> None:
    """An empty mask, or logprobs that are all NaN, raise nothing and report no number."""
    x = np.full(SHAPE, fill)
    found = measured(x, x, np.full(SHAPE, np.isnan(fill)))
    assert all(np.isnan(value) for value in found.values()), found


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold anything on either side."""
    logp, other_logp, mask = draw(2)
    dirty, other_dirty = (np.where(mask, x, garbage) for x in (logp, other_logp))
    assert measured(dirty, other_dirty, mask) == measured(logp, other_logp, mask)


def test_eager_and_jit_agree_and_bfloat16_is_computed_in_float32() -> None:
    """A difference of two logprobs in bfloat16 would keep two digits."""
    logp, other_logp, mask = draw(3)
    rounded, other_rounded = (jnp.asarray(x, jnp.bfloat16) for x in (logp, other_logp))
    eager = values(kl_metrics("kl", rounded, other_rounded, jnp.asarray(mask)))
    assert all(value.dtype == jnp.float32 for value in eager.values())
    expected = measured(np.asarray(rounded, np.float32), np.asarray(other_rounded, np.float32), mask)
    assert {key: float(value) for key, value in eager.items()} == pytest.approx(expected, rel=1e-5, abs=1e-6)
