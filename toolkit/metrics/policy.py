"""`policy/`: how uncertain the policy is, where, and how far it moved.

Logprobs are natural logarithms of the probability of the token that was taken; every value is over the completion
mask only.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from toolkit.metrics import reduction, statistic
from toolkit.metrics.advantages import over_tokens
from toolkit.metrics.histogram import ENTROPY_EDGES, entropy_bin, histogram
from toolkit.metrics.kl import clamped_log_ratio, kl_metrics
from toolkit.metrics.statistic import EffectiveShare, Mean, Statistic

_QUARTERS = 4


def policy_metrics(
    mask: Bool[Array, "batch time"],
    logp: Float[Array, "batch time"] | None = None,
    old_logp: Float[Array, "batch time"] | None = None,
    ref_logp: Float[Array, "batch time"] | None = None,
    init_logp: Float[Array, "batch time"] | None = None,
    ref_kl: Float[Array, "batch time"] | None = None,
    entropy: Float[Array, "batch time"] | None = None,
    advantages: Float[Array, " batch *time"] | None = None,
    success: Float[Array, " batch"] | None = None,
    clip: tuple[float, float] = (0.2, 0.2),
) -> dict[str, Statistic]:
    """The metrics of `policy/` that the given arrays allow, by key.

    `ref_kl` is the exact KL to the reference at each token; `success` is 1, 0, or NaN where nobody judged.
    """
    metrics: dict[str, Statistic] = {}
    if entropy is not None:
        metrics |= entropy_metrics(entropy, mask, success)
    if ref_kl is not None:
        metrics["policy/kl_ref_exact"] = statistic.mean(ref_kl, mask)
    if logp is None:
        return metrics
    metrics["policy/nonfinite_fraction"] = statistic.share(~jnp.isfinite(logp), mask)
    if entropy is None:
        metrics["policy/entropy_mc"] = statistic.mean(-logp, mask)
    if advantages is not None:
        by_token = jnp.broadcast_to(over_tokens(advantages), mask.shape)
        metrics["policy/logp_advantage_covariance"] = statistic.covariance(logp, by_token, mask)
    for name, other in (("ref", ref_logp), ("init", init_logp), ("old", old_logp)):
        if other is not None:
            metrics |= kl_metrics(f"policy/kl_{name}", logp, other, mask)
    if old_logp is not None:
        metrics |= ratio_metrics(logp, old_logp, advantages, mask, clip)
    return metrics


def entropy_metrics(
    entropy: Float[Array, "batch time"],
    mask: Bool[Array, "batch time"],
    success: Float[Array, " batch"] | None = None,
) -> dict[str, Statistic]:
    """Mean entropy in nats a token, its spread, and where it lies: by correctness and by quarter of the completion.

    A few forking tokens carry most of it (Cui et al. 2025, arXiv 2505.22617).
    """
    bins = histogram(entropy, mask, ENTROPY_EDGES, entropy_bin)
    p10, p90 = statistic.rough_quantiles(entropy, mask, (0.1, 0.9), bins)
    metrics: dict[str, Statistic] = {
        "policy/entropy_histogram": bins,
        "policy/entropy_p10": p10,
        "policy/entropy_p90": p90,
    }
    # Every other mean is one of these sums' own: the tokens are read for them only.
    totals, counts = sums_by_quarter(entropy, mask)
    metrics["policy/entropy"] = Mean(jnp.sum(totals), jnp.sum(counts))
    for quarter in range(_QUARTERS):
        metrics[f"policy/entropy_quarter_{quarter + 1}"] = Mean(jnp.sum(totals[quarter]), jnp.sum(counts[quarter]))
    for name, wanted in (("correct", 1), ("incorrect", 0)) if success is not None else ():
        of = success == wanted
        metrics[f"policy/entropy_{name}"] = Mean(jnp.sum(totals, where=of), jnp.sum(counts, where=of))
    return metrics


def sums_by_quarter(
    x: Float[Array, "batch time"], mask: Bool[Array, "batch time"]
) -> tuple[Float[Array, "quarter batch"], Float[Array, "quarter batch"]]:
    """The sum and the count of the entries that lie in each quarter of each completion."""
    quarter, valid = position_quarter(mask), reduction.counted(x, mask)
    inside = [valid & (quarter == number) for number in range(_QUARTERS)]
    totals = [jnp.sum(jnp.where(part, x, 0), axis=1, dtype=jnp.float32) for part in inside]
    counts = [reduction.lengths(part) for part in inside]
    return jnp.stack(totals), jnp.stack(counts)


def position_quarter(mask: Bool[Array, "batch time"]) -> Float[Array, "batch time"]:
    """Which quarter of its completion a position lies in, 0 to 3, from the first token that is kept to the last."""
    place = jnp.arange(mask.shape[1], dtype=jnp.float32)[None, :]
    first = jnp.min(jnp.where(mask, place, mask.shape[1]), axis=1, keepdims=True, initial=mask.shape[1])
    last = jnp.max(jnp.where(mask, place, -1.0), axis=1, keepdims=True, initial=-1.0)
    return jnp.floor(_QUARTERS * (place - first) / (last - first + 1))


def ratio_metrics(
    logp: Float[Array, "batch time"],
    old_logp: Float[Array, "batch time"],
    advantages: Float[Array, " batch *time"] | None,
    mask: Bool[Array, "batch time"],
    clip: tuple[float, float],
) -> dict[str, Statistic]:
    """The importance ratio, how much of the data it leaves in use, and the share of tokens where the clip binds.

    The clip binds below 1 - clip[0] for a negative advantage and above 1 + clip[1] for a positive one (Yu et al. 2025,
    DAPO, arXiv 2503.14476).
    """
    ratio = jnp.exp(-clamped_log_ratio(logp, old_logp))
    known = reduction.counted(ratio, mask)
    first, second = statistic.mean_of_finite(ratio, known), statistic.mean_of_finite(jnp.square(ratio), known)
    metrics: dict[str, Statistic] = {
        "policy/ratio_mean": first,
        "policy/ratio_max": statistic.maximum(ratio, mask),
        "policy/ess": EffectiveShare(first.total, second.total, first.count),
        "policy/chi2": Mean(second.total - second.count, second.count),
    }
    if advantages is not None:
        advantage = over_tokens(advantages)
        metrics["policy/clip_low"] = statistic.share((ratio < 1 - clip[0]) & (advantage < 0), known)
        metrics["policy/clip_high"] = statistic.share((ratio > 1 + clip[1]) & (advantage > 0), known)
    return metrics
