"""Policy and sampler: divergences, clipping and entropy against their formulas, in the right direction."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from toolkit.metrics.policy import k1, k2, k3, policy_metrics, sampler_metrics
from toolkit.metrics.reduction import ENTROPY_EDGES, Bins

SHAPE = (6, 8)
CLIP = (0.2, 0.28)
jitted_policy = jax.jit(partial(policy_metrics, clip=CLIP))
jitted_sampler = jax.jit(sampler_metrics)
Arrays = dict[str, np.ndarray]


def plain(found: Mapping[str, Array | Bins]) -> dict[str, float]:
    """The scalars of a family."""
    return {key: float(value) for key, value in found.items() if not isinstance(value, Bins)}


def policy(arrays: Arrays, mask: np.ndarray) -> dict[str, float]:
    """The scalars of `policy/` under jit."""
    return plain(jitted_policy(jnp.asarray(mask), **{name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}))


def sampler(mask: np.ndarray, logp: np.ndarray, sampler_logp: np.ndarray) -> dict[str, float]:
    """The scalars of `sampler/` under jit."""
    return plain(
        jitted_sampler(jnp.asarray(mask), jnp.asarray(logp, jnp.float32), jnp.asarray(sampler_logp, jnp.float32))
    )


def draw(seed: int) -> tuple[Arrays, np.ndarray]:
    """Logprobs of four policies near each other, entropies, advantages by completion, and a mask."""
    random = np.random.default_rng(seed)
    logp = -random.gamma(1.0, 1.0, SHAPE)
    arrays = {name: logp + random.normal(0, 0.3, SHAPE) for name in ("old_logp", "ref_logp")}
    entropy, advantages = random.gamma(0.5, 0.8, SHAPE), random.normal(size=SHAPE[0])
    return {"logp": logp, **arrays, "entropy": entropy, "advantages": advantages}, random.random(SHAPE) < 0.8


@pytest.mark.parametrize("seed", range(4))
def test_divergences_and_ratios_are_their_formulas(seed: int) -> None:
    """In float64 by NumPy: log r = other - logp for the divergences, and the ratio is exp(logp - old_logp)."""
    arrays, mask = draw(seed)
    found = policy(arrays, mask)
    for name in ("ref", "old"):
        log_ratio = (arrays[f"{name}_logp"] - arrays["logp"])[mask]
        expected = {
            "k1": np.mean(-log_ratio),
            "k2": np.mean(log_ratio**2 / 2),
            "k3": np.mean(np.exp(log_ratio) - 1 - log_ratio),
            "clamped_fraction": 0,
        }
        for key, value in expected.items():
            np.testing.assert_allclose(found[f"policy/kl_{name}_{key}"], value, rtol=1e-4, atol=1e-6, err_msg=key)
    ratio = np.exp(arrays["logp"] - arrays["old_logp"])
    positive = np.broadcast_to(arrays["advantages"][:, None] > 0, SHAPE)
    np.testing.assert_allclose(found["policy/ratio_mean"], ratio[mask].mean(), rtol=1e-5)
    np.testing.assert_allclose(found["policy/ratio_max"], ratio[mask].max(), rtol=1e-5)
    np.testing.assert_allclose(found["policy/clip_low"], np.mean((ratio < 0.8)[mask] & ~positive[mask]), rtol=1e-5)
    np.testing.assert_allclose(found["policy/clip_high"], np.mean((ratio > 1.28)[mask] & positive[mask]), rtol=1e-5)


def test_divergences_by_hand() -> None:
    """Where the reference is twice as likely, log r = ln 2."""
    mask = np.zeros(SHAPE, bool)
    mask[2, 3] = True
    half, quarter = np.full(SHAPE, np.log(0.5)), np.full(SHAPE, np.log(0.25))
    arrays = {"logp": quarter, "ref_logp": half, "old_logp": quarter, "entropy": half, "advantages": np.zeros(SHAPE[0])}
    found = policy(arrays, mask)
    assert found["policy/kl_ref_k1"] == pytest.approx(-np.log(2), rel=1e-6)
    assert found["policy/kl_ref_k2"] == pytest.approx(np.log(2) ** 2 / 2, rel=1e-6)
    assert found["policy/kl_ref_k3"] == pytest.approx(1 - np.log(2), rel=1e-6)
    first_step = {"kl_old_k1": 0, "kl_old_k3": 0, "ratio_mean": 1, "ratio_max": 1, "clip_low": 0, "clip_high": 0}
    assert {key: found[f"policy/{key}"] for key in first_step} == first_step


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
    arrays, _ = draw(0)
    mask = np.zeros(SHAPE, bool)
    mask[0, :5] = True
    arrays["logp"][0, :5] = [-1.0, -1.0, -1.0, -1.0, np.nan]
    arrays["ref_logp"][0, :5] = [-1.0, -1.0, -31.0, -np.inf, -1.0]
    found = policy(arrays, mask)
    assert found["policy/kl_ref_k1"] == pytest.approx(40 / 4)
    assert found["policy/kl_ref_clamped_fraction"] == 0.5
    assert found["policy/nonfinite_fraction"] == pytest.approx(0.2)


def test_the_clip_binds_by_the_sign_of_the_advantage() -> None:
    """Ratios 0.5 and 1.5 under each sign: two of four are clipped, and a ratio inside of the range never is."""
    arrays, _ = draw(0)
    mask = np.zeros(SHAPE, bool)
    mask[:3, :2] = True
    arrays["old_logp"] = arrays["logp"] - np.log(np.resize([0.5, 1.5], SHAPE))
    arrays["advantages"] = np.array([1.0, -1.0, 0.0, 1.0, 1.0, 1.0])
    found = policy(arrays, mask)
    assert found["policy/clip_low"] == pytest.approx(1 / 6)
    assert found["policy/clip_high"] == pytest.approx(1 / 6)
    arrays["old_logp"] = arrays["logp"] - np.log(np.resize([0.81, 1.27], SHAPE))
    found = policy(arrays, mask)
    assert found["policy/clip_low"] == found["policy/clip_high"] == 0


@pytest.mark.parametrize("seed", range(2))
def test_advantages_by_token_clip_token_by_token(seed: int) -> None:
    """Each token by its own sign; equal advantages of all tokens are those of the completion."""
    arrays, mask = draw(seed)
    by_completion = policy(arrays, mask)
    arrays["advantages"] = np.repeat(arrays["advantages"][:, None], SHAPE[1], axis=1)
    assert policy(arrays, mask) == pytest.approx(by_completion, rel=1e-6)
    arrays["advantages"] = np.random.default_rng(seed).normal(size=SHAPE)
    ratio = np.exp(arrays["logp"] - arrays["old_logp"])
    found = policy(arrays, mask)
    expected = np.mean(((ratio < 0.8) & (arrays["advantages"] < 0))[mask])
    np.testing.assert_allclose(found["policy/clip_low"], expected, rtol=1e-5)
    expected = np.mean(((ratio > 1.28) & (arrays["advantages"] > 0))[mask])
    np.testing.assert_allclose(found["policy/clip_high"], expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_entropy_has_its_mean_and_its_spread(seed: int) -> None:
    """The quantiles are those of the histogram, so exact to a bin's width."""
    arrays, mask = draw(seed)
    found = policy(arrays, mask)
    kept = arrays["entropy"][mask]
    np.testing.assert_allclose(found["policy/entropy"], kept.mean(), rtol=1e-5)
    for quantity, q in (("p10", 0.1), ("p90", 0.9)):
        exact = np.quantile(kept, q, method="inverted_cdf")
        above = np.searchsorted(ENTROPY_EDGES, exact, side="right")
        width = ENTROPY_EDGES[above] - ENTROPY_EDGES[above - 1]
        assert abs(found[f"policy/entropy_{quantity}"] - exact) <= width + 1e-6


def test_without_entropies_the_logprobs_estimate_them_under_another_name() -> None:
    """The mean of -logp over sampled tokens is the entropy, but noisier, so it must not pass for it."""
    logp, mask = jnp.full(SHAPE, -0.25), jnp.ones(SHAPE, bool)
    found = plain(policy_metrics(mask, logp=logp))
    assert found == {"policy/entropy_mc": 0.25, "policy/nonfinite_fraction": 0.0}


def test_each_field_brings_its_own_metrics() -> None:
    """No reference, no old policy or no advantages: just what needs them is missing."""
    logp, mask = jnp.zeros(SHAPE), jnp.ones(SHAPE, bool)

    def found(**given: Any) -> set[str]:
        keys: set[str] = set()
        jax.eval_shape(lambda: keys.update(policy_metrics(mask, **given)))
        return {key.removeprefix("policy/") for key in keys}

    kl = {"k1", "k2", "k3", "clamped_fraction"}
    entropy = {"entropy", "entropy_p10", "entropy_p90", "entropy_histogram"}
    assert found() == set()
    assert found(entropy=logp) == entropy
    assert found(logp=logp, entropy=logp) == entropy | {"nonfinite_fraction"}
    estimated = {"entropy_mc", "nonfinite_fraction"}
    assert found(logp=logp, ref_logp=logp) == estimated | {f"kl_ref_{key}" for key in kl}
    off_policy = estimated | {f"kl_old_{key}" for key in kl} | {"ratio_mean", "ratio_max"}
    assert found(logp=logp, old_logp=logp) == off_policy
    assert found(logp=logp, old_logp=logp, advantages=logp) == off_policy | {"clip_low", "clip_high"}


@pytest.mark.parametrize("seed", range(3))
def test_the_sampler_is_compared_on_its_own_tokens(seed: int) -> None:
    """The tokens are the sampler's, so k3 estimates KL(sampler || policy): log r = logp - sampler_logp."""
    arrays, mask = draw(seed)
    logp, sampler_logp = arrays["logp"], arrays["old_logp"]
    found = sampler(mask, logp, sampler_logp)
    log_ratio = (logp - sampler_logp)[mask]
    expected = {
        "kl_k3": np.mean(np.exp(log_ratio) - 1 - log_ratio),
        "abs_logp_gap_mean": np.mean(np.abs(log_ratio)),
        "abs_logp_gap_max": np.max(np.abs(log_ratio)),
        "mult_error": np.mean(np.exp(np.abs(log_ratio))),
        "pearson": np.corrcoef(np.exp(logp[mask]), np.exp(sampler_logp[mask]))[0, 1],
    }
    assert found == pytest.approx({f"sampler/{key}": value for key, value in expected.items()}, rel=1e-4)


def test_a_sampler_that_agrees_has_no_mismatch() -> None:
    """The same logprobs give no divergence, no gap, a factor of 1 and full correlation."""
    arrays, mask = draw(1)
    found = sampler(mask, arrays["logp"], arrays["logp"])
    expected = {"kl_k3": 0, "abs_logp_gap_mean": 0, "abs_logp_gap_max": 0, "mult_error": 1, "pearson": 1}
    assert found == pytest.approx({f"sampler/{key}": value for key, value in expected.items()}, abs=1e-6)


def test_the_samplers_divergence_is_that_of_the_sampler_from_the_policy() -> None:
    """Over tokens in the sampler's own proportions k3 is KL(sampler || policy), and not the other direction."""
    mu, pi = np.array([0.75, 0.125, 0.125]), np.array([0.4, 0.3, 0.3])
    tokens = np.repeat([0, 1, 2], [36, 6, 6]).reshape(SHAPE)
    found = sampler(np.ones(SHAPE, bool), np.log(pi)[tokens], np.log(mu)[tokens])
    forward, backward = np.sum(mu * np.log(mu / pi)), np.sum(pi * np.log(pi / mu))
    assert abs(forward - backward) > 0.02
    assert found["sampler/kl_k3"] == pytest.approx(forward, rel=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e38])
def test_what_lies_behind_the_mask_changes_nothing(garbage: float) -> None:
    """Padding may hold anything in every field."""
    arrays, mask = draw(2)
    dirty = {name: np.where(mask, x, garbage) if x.ndim == 2 else x for name, x in arrays.items()}
    assert policy(dirty, mask) == policy(arrays, mask)
    assert sampler(mask, dirty["logp"], dirty["old_logp"]) == sampler(mask, arrays["logp"], arrays["old_logp"])


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_nothing_to_measure_has_no_value(fill: float) -> None:
    """An empty mask, or logprobs that are all NaN, raise nothing and report no number."""
    arrays, _ = draw(0)
    mask = np.full(SHAPE, np.isnan(fill))
    arrays = {name: np.full_like(x, fill) for name, x in arrays.items()}
    found = policy(arrays, mask) | sampler(mask, arrays["logp"], arrays["old_logp"])
    nonfinite = found.pop("policy/nonfinite_fraction")
    assert nonfinite == 1 if np.isnan(fill) else np.isnan(nonfinite)
    assert all(np.isnan(value) for value in found.values()), found


def test_eager_and_jit_agree_and_bfloat16_is_computed_in_float32() -> None:
    """The kernels need no jit around them, and take what a model computes in."""
    arrays, mask = draw(3)
    rounded = {name: jnp.asarray(x, jnp.bfloat16) for name, x in arrays.items()}
    exact = {name: np.asarray(x, np.float32) for name, x in rounded.items()}
    eager = policy_metrics(jnp.asarray(mask), **rounded, clip=CLIP)
    eager |= sampler_metrics(jnp.asarray(mask), rounded["logp"], rounded["old_logp"])
    assert all(value.dtype == jnp.float32 for value in eager.values() if not isinstance(value, Bins))
    expected = policy(exact, mask) | sampler(mask, exact["logp"], exact["old_logp"])
    assert plain(eager) == pytest.approx(expected, rel=1e-5, abs=1e-6)
