"""`completions/`: how long the answers are, how many ran out of room, and whether length is what is being rewarded."""

from __future__ import annotations

from jaxtyping import Array, Bool, Float

from toolkit.metrics import reduction, statistic
from toolkit.metrics.histogram import LENGTH_EDGES, histogram
from toolkit.metrics.statistic import Statistic


def completion_metrics(
    mask: Bool[Array, "batch time"],
    rows: Bool[Array, " batch"],
    truncated: Bool[Array, " batch"] | None = None,
    total_reward: Float[Array, " batch"] | None = None,
    success: Float[Array, " batch"] | None = None,
) -> dict[str, Statistic]:
    """The metrics of the family that the given arrays allow, by key; lengths are in tokens of the mask.

    `success` is 1, 0, or NaN where a completion was not judged. Length by correctness shows the length bias of the
    objective (Liu et al. 2025, Dr. GRPO, arXiv 2503.20783).
    """
    length = reduction.lengths(mask)
    p50, p95 = statistic.quantiles(length, rows, (0.5, 0.95), LENGTH_EDGES)
    metrics: dict[str, Statistic] = {
        **_spread("completions/length", length, rows),
        "completions/length_p50": p50,
        "completions/length_p95": p95,
        "completions/length_histogram": histogram(length, rows, LENGTH_EDGES),
    }
    if truncated is not None:
        metrics |= _spread("completions/terminated_length", length, rows & ~truncated)
        metrics["completions/truncated_fraction"] = statistic.share(truncated, rows)
    if total_reward is not None:
        metrics["completions/length_reward_correlation"] = statistic.correlation(length, total_reward, rows)
    if success is not None:
        metrics["completions/length_correct"] = statistic.mean(length, rows & (success == 1))
        metrics["completions/length_incorrect"] = statistic.mean(length, rows & (success == 0))
    return metrics


def _spread(prefix: str, length: Float[Array, " batch"], rows: Bool[Array, " batch"]) -> dict[str, Statistic]:
    return {
        f"{prefix}_mean": statistic.mean(length, rows),
        f"{prefix}_min": statistic.minimum(length, rows),
        f"{prefix}_max": statistic.maximum(length, rows),
    }
