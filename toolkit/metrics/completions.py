"""`completions/`: how long the answers are, how many ran out of room, and whether length is what is being rewarded."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from toolkit.metrics import reduction
from toolkit.metrics.reduction import LENGTH_EDGES, Bins


def completion_metrics(
    mask: Bool[Array, "batch time"],
    rows: Bool[Array, " batch"],
    truncated: Bool[Array, " batch"] | None = None,
    total_reward: Float[Array, " batch"] | None = None,
    success: Float[Array, " batch"] | None = None,
) -> dict[str, Array | Bins]:
    """The metrics of the family that the given arrays allow, by key; lengths are in tokens of the mask.

    `success` is 1, 0, or NaN where a completion was not judged. Length by correctness shows the length bias of the
    objective (Liu et al. 2025, Dr. GRPO, arXiv 2503.20783).
    """
    length = jnp.sum(mask, axis=1, dtype=jnp.float32)
    p50, p95 = reduction.quantiles(length, rows, (0.5, 0.95))
    metrics: dict[str, Array | Bins] = {
        **_spread("completions/length", length, rows),
        "completions/length_p50": p50,
        "completions/length_p95": p95,
        "completions/length_histogram": reduction.histogram(length, rows, LENGTH_EDGES),
    }
    if truncated is not None:
        metrics |= _spread("completions/terminated_length", length, rows & ~truncated)
        metrics["completions/truncated_fraction"] = reduction.share(truncated, rows)
    if total_reward is not None:
        metrics["completions/length_reward_correlation"] = reduction.correlation(length, total_reward, rows)
    if success is not None:
        metrics["completions/length_correct"] = reduction.mean(length, rows & (success == 1))
        metrics["completions/length_incorrect"] = reduction.mean(length, rows & (success == 0))
    return metrics


def _spread(prefix: str, length: Float[Array, " batch"], rows: Bool[Array, " batch"]) -> dict[str, Array | Bins]:
    return {
        f"{prefix}_mean": reduction.mean(length, rows),
        f"{prefix}_min": reduction.minimum(length, rows),
        f"{prefix}_max": reduction.maximum(length, rows),
    }
