"""`policy/` and `sampler/`: how uncertain the policy is, how far it moved, and whether the sampler agrees with it.

Logprobs are natural logarithms of the probability of the token that was taken; every value is over the completion
mask only.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from toolkit.metrics import reduction
from toolkit.metrics.advantages import over_tokens
from toolkit.metrics.reduction import ENTROPY_EDGES, Bins

_LOG_RATIO_LIMIT = 20.0


def policy_metrics(
    mask: Bool[Array, "batch time"],
    logp: Float[Array, "batch time"] | None = None,
    old_logp: Float[Array, "batch time"] | None = None,
    ref_logp: Float[Array, "batch time"] | None = None,
    entropy: Float[Array, "batch time"] | None = None,
    advantages: Float[Array, " batch *time"] | None = None,
    clip: tuple[float, float] = (0.2, 0.2),
) -> dict[str, Array | Bins]:
    """The metrics of `policy/` that the given arrays allow, by key."""
    metrics: dict[str, Array | Bins] = {}
    if entropy is not None:
        metrics |= entropy_metrics(entropy, mask)
    if logp is None:
        return metrics
    metrics["policy/nonfinite_fraction"] = reduction.share(~jnp.isfinite(logp), mask)
    if entropy is None:
        metrics["policy/entropy_mc"] = -reduction.mean(logp, mask)
    if ref_logp is not None:
        metrics |= kl_metrics("policy/kl_ref", logp, ref_logp, mask)
    if old_logp is not None:
        metrics |= kl_metrics("policy/kl_old", logp, old_logp, mask)
        metrics |= ratio_metrics(logp, old_logp, advantages, mask, clip)
    return metrics


def sampler_metrics(
    mask: Bool[Array, "batch time"], logp: Float[Array, "batch time"], sampler_logp: Float[Array, "batch time"]
) -> dict[str, Array | Bins]:
    """The mismatch between the sampler and the policy on the same tokens, before any truncation of ratios.

    `logp` must be the policy that sampled, so before the update; a `kl_k3` above 0.001 points to a fault.
    """
    logp, sampler_logp = logp.astype(jnp.float32), sampler_logp.astype(jnp.float32)
    gap = jnp.abs(logp - sampler_logp)
    return {
        "sampler/kl_k3": reduction.mean(k3(clamped_log_ratio(sampler_logp, logp)), mask),
        "sampler/abs_logp_gap_mean": reduction.mean(gap, mask),
        "sampler/abs_logp_gap_max": reduction.maximum(gap, mask),
        "sampler/mult_error": reduction.mean(jnp.exp(jnp.minimum(gap, _LOG_RATIO_LIMIT)), mask),
        "sampler/pearson": reduction.correlation(jnp.exp(logp), jnp.exp(sampler_logp), mask),
    }


def entropy_metrics(entropy: Float[Array, "batch time"], mask: Bool[Array, "batch time"]) -> dict[str, Array | Bins]:
    """Mean entropy in nats a token, with its spread: a few forking tokens carry most of it (Cui et al., 2505.22617)."""
    bins = reduction.histogram(entropy, mask, ENTROPY_EDGES)
    return {
        "policy/entropy": reduction.mean(entropy, mask),
        "policy/entropy_p10": reduction.histogram_quantile(bins, 0.1),
        "policy/entropy_p90": reduction.histogram_quantile(bins, 0.9),
        "policy/entropy_histogram": bins,
    }


def kl_metrics(
    prefix: str,
    logp: Float[Array, "batch time"],
    other_logp: Float[Array, "batch time"],
    mask: Bool[Array, "batch time"],
) -> dict[str, Array | Bins]:
    """Three estimates of KL(policy || other) a token, and the share of tokens whose log ratio had to be clamped."""
    log_ratio = clamped_log_ratio(logp, other_logp)
    return {
        f"{prefix}_k1": reduction.mean(k1(log_ratio), mask),
        f"{prefix}_k2": reduction.mean(k2(log_ratio), mask),
        f"{prefix}_k3": reduction.mean(k3(log_ratio), mask),
        f"{prefix}_clamped_fraction": reduction.share(
            jnp.abs(log_ratio) >= _LOG_RATIO_LIMIT, reduction.counted(log_ratio, mask)
        ),
    }


def ratio_metrics(
    logp: Float[Array, "batch time"],
    old_logp: Float[Array, "batch time"],
    advantages: Float[Array, " batch *time"] | None,
    mask: Bool[Array, "batch time"],
    clip: tuple[float, float],
) -> dict[str, Array | Bins]:
    """The importance ratio, and the share of tokens where the clip binds (Yu et al. 2025, DAPO, arXiv 2503.14476).

    It binds below 1 - clip[0] for a negative advantage and above 1 + clip[1] for a positive one.
    """
    ratio = jnp.exp(-clamped_log_ratio(logp, old_logp))
    known = reduction.counted(ratio, mask)
    metrics: dict[str, Array | Bins] = {
        "policy/ratio_mean": reduction.mean(ratio, mask),
        "policy/ratio_max": reduction.maximum(ratio, mask),
    }
    if advantages is not None:
        advantage = over_tokens(advantages)
        metrics["policy/clip_low"] = reduction.share((ratio < 1 - clip[0]) & (advantage < 0), known)
        metrics["policy/clip_high"] = reduction.share((ratio > 1 + clip[1]) & (advantage > 0), known)
    return metrics


def clamped_log_ratio(
    logp: Float[Array, "batch time"], other_logp: Float[Array, "batch time"]
) -> Float[Array, "batch time"]:
    """log r = other_logp - logp, clamped to +-20, where exp is still a number that can be averaged in float32."""
    log_ratio = other_logp.astype(jnp.float32) - logp.astype(jnp.float32)
    return jnp.clip(log_ratio, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)


def k1(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-log r: unbiased, of high variance, and often negative (Schulman 2020, Approximating KL divergence)."""
    return -log_ratio


def k2(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(log r)^2 / 2: biased, of low variance (Schulman 2020, Approximating KL divergence)."""
    return jnp.square(log_ratio) / 2


def k3(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """r - 1 - log r: unbiased and never negative (Schulman 2020, Approximating KL divergence)."""
    return jnp.expm1(log_ratio) - log_ratio
