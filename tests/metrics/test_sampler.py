"""The sampler against the trainer: the mismatch by its formulas, in the direction of the tokens that were drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.sampler import sampler_metrics

SHAPE = (6, 8)
WHOLE = np.ones(SHAPE, bool)
AGREEMENT = {"kl_k3": 0, "abs_logp_gap_mean": 0, "abs_logp_gap_max": 0, "mult_error": 1, "pearson": 1}


@jax.jit
def jitted(mask: Array, logp: Array, sampler_logp: Array) -> dict[str, Array]:
    """The finished metrics."""
    return values(sampler_metrics(mask, logp, sampler_logp))


def measured(mask: np.ndarray, logp: np.ndarray, sampler_logp: np.ndarray) -> dict[str, float]:
    """The family under jit, without its prefix."""
    found = jitted(jnp.asarray(mask), jnp.asarray(logp, jnp.float32), jnp.asarray(sampler_logp, jnp.float32))
    return {key.removeprefix("sampler/"): float(value) for key, value in found.items()}


def draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A mask, the trainer's logprobs, and the sampler's near to them."""
    random = np.random.default_rng(seed)
    logp = -random.gamma(1.0, 1.0, SHAPE)
    return random.random(SHAPE) < 0.8, logp, logp + random.normal(0, 0.3, SHAPE)


@pytest.mark.parametrize("seed", range(3))
def test_the_sampler_is_compared_on_its_own_tokens(seed: int) -> None:
    """The tokens are the sampler's, so k3 estimates KL(sampler || policy): log r = logp - sampler_logp."""
    mask, logp, sampler_logp = draw(seed)
    log_ratio = (logp - sampler_logp)[mask]
    expected = {
        "kl_k3": np.mean(np.exp(log_ratio) - 1 - log_ratio),
        "abs_logp_gap_mean": np.mean(np.abs(log_ratio)),
        "abs_logp_gap_max": np.max(np.abs(log_ratio)),
        "mult_error": np.mean(np.exp(np.abs(log_ratio))),
        "pearson": np.corrcoef(np.exp(logp[mask]), np.exp(sampler_logp[mask]))[0, 1],
    }
    assert measured(mask, logp, sampler_logp) == pytest.approx(expected, rel=1e-4)


def test_a_mismatch_by_hand() -> None:
    """Half of the tokens are twice as likely for the sampler: a gap of ln 2, a factor of 2, and log r = -ln 2."""
    sampler_logp = np.resize([np.log(0.5), np.log(0.25)], SHAPE)
    logp = np.resize([np.log(0.25), np.log(0.25)], SHAPE)
    found = measured(WHOLE, logp, sampler_logp)
    assert np.isnan(found.pop("pearson"))  # the trainer's probabilities do not vary
    assert found == pytest.approx({
        "kl_k3": (0.5 - 1 + np.log(2)) / 2,
        "abs_logp_gap_mean": np.log(2) / 2,
        "abs_logp_gap_max": np.log(2),
        "mult_error": 1.5,
    })  # fmt: skip


def test_a_sampler_that_agrees_has_no_mismatch() -> None:
    """The same logprobs give no divergence, no gap, a factor of 1 and full correlation."""
    mask, logp, _ = draw(1)
    assert measured(mask, logp, logp) == pytest.approx(AGREEMENT, abs=1e-6)


def test_the_divergence_is_that_of_the_sampler_from_the_policy() -> None:
    """Over tokens in the sampler's own proportions k3 is KL(sampler || policy), and not the other direction."""
    mu, pi = np.array([0.75, 0.125, 0.125]), np.array([0.4, 0.3, 0.3])
    tokens = np.repeat([0, 1, 2], [36, 6, 6]).reshape(SHAPE)
    found = measured(WHOLE, np.log(pi)[tokens], np.log(mu)[tokens])
    forward, backward = np.sum(mu * np.log(mu / pi)), np.sum(pi * np.log(pi / mu))
    assert abs(forward - backward) > 0.02
    assert found["kl_k3"] == pytest.approx(forward, rel=1e-5)


def test_one_token_far_off_does_not_become_infinite() -> None:
    """The gap is the raw one, and what is averaged as an exponential is clamped at 20."""
    logp = np.full(SHAPE, -1.0)
    far = logp.copy()
    far[0, 0] = -61.0
    found = measured(WHOLE, logp, far)
    assert found["abs_logp_gap_max"] == 60
    assert found["abs_logp_gap_mean"] == pytest.approx(60 / 48)
    assert found["mult_error"] == pytest.approx((47 + np.exp(20)) / 48)
    assert found["kl_k3"] == pytest.approx((np.exp(20) - 1 - 20) / 48)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold anything on either side."""
    mask, logp, sampler_logp = draw(2)
    dirty = [np.where(mask, x, garbage) for x in (logp, sampler_logp)]
    assert measured(mask, *dirty) == measured(mask, logp, sampler_logp)


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_nothing_to_compare_has_no_value(fill: float) -> None:
    """An empty mask, or logprobs that are all NaN, raise nothing and report no number."""
    x = np.full(SHAPE, fill)
    found = measured(np.full(SHAPE, np.isnan(fill)), x, x)
    assert all(np.isnan(value) for value in found.values()), found


def test_a_single_token_has_no_correlation() -> None:
    """One pair of probabilities varies with nothing; its gap is known all the same."""
    mask = np.arange(48).reshape(SHAPE) == 11
    found = measured(mask, np.full(SHAPE, -1.0), np.full(SHAPE, -1.5))
    assert np.isnan(found["pearson"])
    assert found["abs_logp_gap_mean"] == found["abs_logp_gap_max"] == 0.5


def test_eager_and_jit_agree_and_bfloat16_is_computed_in_float32() -> None:
    """The kernel needs no jit around it, and takes what a model computes in."""
    mask, logp, sampler_logp = draw(3)
    rounded = [jnp.asarray(x, jnp.bfloat16) for x in (logp, sampler_logp)]
    eager = values(sampler_metrics(jnp.asarray(mask), *rounded))
    assert all(value.dtype == jnp.float32 for value in eager.values())
    plain = {key.removeprefix("sampler/"): float(value) for key, value in eager.items()}
    assert plain == pytest.approx(measured(mask, *(np.asarray(x, np.float32) for x in rounded)), rel=1e-5, abs=1e-6)
