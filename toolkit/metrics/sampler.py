"""`sampler/`: whether the sampler and the trainer agree on the tokens that were drawn."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from toolkit.metrics import statistic
from toolkit.metrics.kl import LOG_RATIO_LIMIT, clamped_log_ratio, k3
from toolkit.metrics.statistic import Statistic


def sampler_metrics(
    mask: Bool[Array, "batch time"], logp: Float[Array, "batch time"], sampler_logp: Float[Array, "batch time"]
) -> dict[str, Statistic]:
    """The mismatch between the sampler and the policy on the same tokens, before any truncation of ratios.

    `logp` must be the policy that sampled, so before the update; a `kl_k3` above 0.001 points to a fault.
    """
    logp, sampler_logp = logp.astype(jnp.float32), sampler_logp.astype(jnp.float32)
    gap, log_ratio = jnp.abs(logp - sampler_logp), clamped_log_ratio(sampler_logp, logp)
    return {
        "sampler/kl_k3": statistic.mean(k3(log_ratio), mask),
        "sampler/abs_logp_gap_mean": statistic.mean(gap, mask),
        "sampler/abs_logp_gap_max": statistic.maximum(gap, mask),
        "sampler/mult_error": statistic.mean(jnp.exp(jnp.minimum(gap, LOG_RATIO_LIMIT)), mask),
        "sampler/pearson": statistic.correlation(jnp.exp(logp), jnp.exp(sampler_logp), mask),
    }
