"""Estimates of a KL divergence from the logprobs of the tokens that were taken.

log r = other_logp - logp, for tokens drawn from the policy (Schulman 2020, Approximating KL divergence).
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from toolkit.metrics import reduction, statistic
from toolkit.metrics.statistic import Statistic

LOG_RATIO_LIMIT = 20.0
"""exp of it is still a number that can be averaged in float32."""


def kl_metrics(
    prefix: str,
    logp: Float[Array, "batch time"],
    other_logp: Float[Array, "batch time"],
    mask: Bool[Array, "batch time"],
) -> dict[str, Statistic]:
    """Three estimates of KL(policy || other) a token, and the share of tokens whose log ratio had to be clamped."""
    log_ratio = clamped_log_ratio(logp, other_logp)
    known = reduction.counted(log_ratio, mask)
    return {
        f"{prefix}_k1": statistic.mean_of_finite(k1(log_ratio), known),
        f"{prefix}_k2": statistic.mean_of_finite(k2(log_ratio), known),
        f"{prefix}_k3": statistic.mean_of_finite(k3(log_ratio), known),
        f"{prefix}_clamped_fraction": statistic.share(jnp.abs(log_ratio) >= LOG_RATIO_LIMIT, known),
    }


def clamped_log_ratio(
    logp: Float[Array, "batch time"], other_logp: Float[Array, "batch time"]
) -> Float[Array, "batch time"]:
    """log r = other_logp - logp, clamped to +-20."""
    log_ratio = other_logp.astype(jnp.float32) - logp.astype(jnp.float32)
    return jnp.clip(log_ratio, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def k1(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """-log r: unbiased, of high variance, and often negative."""
    return -log_ratio


def k2(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(log r)^2 / 2: biased, of low variance."""
    return jnp.square(log_ratio) / 2


def k3(log_ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """r - 1 - log r: unbiased and never negative."""
    return jnp.expm1(log_ratio) - log_ratio
