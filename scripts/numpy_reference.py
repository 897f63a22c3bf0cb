"""The numeric metrics once more, by vectorised NumPy as one would write it by hand: what `measure` must beat."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from toolkit.metrics.histogram import ENTROPY_EDGES, LENGTH_EDGES, SIGNED_LOG_EDGES

Values = dict[str, Any]


def reference(fields: Values) -> Values:
    """Every metric of a rollout whose fields are arrays of NumPy, all of them given, in consecutive groups."""
    rewards, mask, size = fields["rewards"], fields["mask"], fields["group_size"]
    total = np.nansum(np.stack(list(rewards.values())), axis=0, dtype=np.float32)
    success = rewards["correct"] > 0.5
    taken = {name: fields[name][mask] for name in ("logp", "old_logp", "ref_logp", "sampler_logp", "entropy")}
    advantage = np.broadcast_to(fields["advantages"][:, None], mask.shape)[mask]
    return {
        **of_rewards(rewards, total, size),
        **of_groups(total, success, size),
        **of_advantages(fields["advantages"], advantage),
        **of_policy(taken, advantage, mask, success),
        **of_sampler(taken["old_logp"], taken["sampler_logp"]),
        **of_completions(mask.sum(axis=1).astype(np.float32), fields["truncated"], total, success),
        "throughput/completions": len(mask),
        "throughput/examples": len(mask) // size,
        "throughput/tokens": mask.sum(),
    }


def of_rewards(rewards: Values, total: np.ndarray, size: int) -> Values:
    """`rewards/`."""
    found: Values = {}
    whole = total.reshape(-1, size)
    whole = whole - whole.mean(axis=1, keepdims=True)
    for name, reward in {**rewards, "total": total}.items():
        groups = reward.reshape(-1, size)
        p10, median, p90 = np.quantile(reward, (0.1, 0.5, 0.9))
        within = groups - groups.mean(axis=1, keepdims=True)
        found |= {
            f"rewards/{name}/mean": reward.mean(), f"rewards/{name}/std": reward.std(),
            f"rewards/{name}/min": reward.min(), f"rewards/{name}/max": reward.max(),
            f"rewards/{name}/p10": p10, f"rewards/{name}/median": median, f"rewards/{name}/p90": p90,
            f"rewards/{name}/coverage": np.isfinite(reward).mean(),
            f"rewards/{name}/histogram": counts(reward, SIGNED_LOG_EDGES),
            f"rewards/{name}/within_std": np.sqrt((within**2).mean()),
            f"rewards/{name}/between_std": groups.mean(axis=1).std(),
        }  # fmt: skip
        if name != "total":
            found[f"rewards/{name}/signal_share"] = (within * whole).mean() / (whole**2).mean()
    for first, second in combinations(sorted(rewards), 2):
        x, y = rewards[first], rewards[second]
        inside = [r.reshape(-1, size) - r.reshape(-1, size).mean(axis=1, keepdims=True) for r in (x, y)]
        found[f"rewards/correlation/{first}~{second}"] = np.corrcoef(x, y)[0, 1]
        found[f"rewards/correlation_within/{first}~{second}"] = np.corrcoef(*(r.ravel() for r in inside))[0, 1]
    return found


def of_groups(total: np.ndarray, success: np.ndarray, size: int) -> Values:
    """`groups/`."""
    groups = total.reshape(-1, size)
    best, worst = groups.max(axis=1), groups.min(axis=1)
    low, high = worst.min(), best.max()
    equal, third = best == worst, (high - low) / 3
    wrong = size - success.reshape(-1, size).sum(axis=1)
    return {
        "groups/best": best.mean(), "groups/mean": groups.mean(axis=1).mean(), "groups/worst": worst.mean(),
        "groups/zero_std_fraction": equal.mean(),
        "groups/all_low_fraction": (equal & (best < low + third)).mean(),
        "groups/all_high_fraction": (equal & (best > high - third)).mean(),
        **{f"groups/pass_at_{k}": 1 - np.prod([np.maximum(wrong - i, 0) / (size - i) for i in range(k)], axis=0).mean()
           for k in (1, 4)},
    }  # fmt: skip


def of_advantages(advantages: np.ndarray, by_token: np.ndarray) -> Values:
    """`advantages/`."""
    return {
        "advantages/mean": advantages.mean(), "advantages/std": advantages.std(),
        "advantages/abs_mean": np.abs(advantages).mean(), "advantages/zero_fraction": (advantages == 0).mean(),
        "advantages/positive_token_share": (by_token > 0).mean(),
        "advantages/histogram": counts(advantages, SIGNED_LOG_EDGES),
    }  # fmt: skip


def of_policy(taken: Values, advantage: np.ndarray, mask: np.ndarray, success: np.ndarray) -> Values:
    """`policy/`."""
    logp, entropy = taken["logp"], taken["entropy"]
    found: Values = {"policy/nonfinite_fraction": (~np.isfinite(logp)).mean()}
    found["policy/logp_advantage_covariance"] = ((logp - logp.mean()) * (advantage - advantage.mean())).mean()
    for name in ("ref", "old"):
        log_ratio = np.clip(taken[f"{name}_logp"] - logp, -20, 20)
        found |= {
            f"policy/kl_{name}_k1": -log_ratio.mean(), f"policy/kl_{name}_k2": (log_ratio**2).mean() / 2,
            f"policy/kl_{name}_k3": (np.expm1(log_ratio) - log_ratio).mean(),
            f"policy/kl_{name}_clamped_fraction": (np.abs(log_ratio) >= 20).mean(),
        }  # fmt: skip
    ratio = np.exp(np.clip(logp - taken["old_logp"], -20, 20))
    second = (ratio**2).mean()
    found |= {
        "policy/ratio_mean": ratio.mean(), "policy/ratio_max": ratio.max(),
        "policy/ess": ratio.mean() ** 2 / second, "policy/chi2": second - 1,
        "policy/clip_low": ((ratio < 0.8) & (advantage < 0)).mean(),
        "policy/clip_high": ((ratio > 1.2) & (advantage > 0)).mean(),
    }  # fmt: skip
    place = np.broadcast_to(np.arange(mask.shape[1], dtype=np.float32), mask.shape)
    length = mask.sum(axis=1, keepdims=True, dtype=np.float32)  # the masks of the benchmark start at 0
    quarter = np.floor(4 * place / length)[mask]
    right = np.broadcast_to(success[:, None], mask.shape)[mask]
    found |= {f"policy/entropy_quarter_{q + 1}": entropy[quarter == q].mean() for q in range(4)}
    found |= {"policy/entropy_correct": entropy[right].mean(), "policy/entropy_incorrect": entropy[~right].mean()}
    p10, p90 = np.quantile(entropy, (0.1, 0.9))
    histogram = counts(entropy, ENTROPY_EDGES)
    return found | {
        "policy/entropy": entropy.mean(), "policy/entropy_p10": p10, "policy/entropy_p90": p90,
        "policy/entropy_histogram": histogram,
    }  # fmt: skip


def of_sampler(logp: np.ndarray, sampler_logp: np.ndarray) -> Values:
    """`sampler/`."""
    log_ratio = np.clip(logp - sampler_logp, -20, 20)
    gap = np.abs(logp - sampler_logp)
    return {
        "sampler/kl_k3": (np.expm1(log_ratio) - log_ratio).mean(),
        "sampler/abs_logp_gap_mean": gap.mean(), "sampler/abs_logp_gap_max": gap.max(),
        "sampler/mult_error": np.exp(np.minimum(gap, 20)).mean(),
        "sampler/pearson": np.corrcoef(np.exp(logp), np.exp(sampler_logp))[0, 1],
    }  # fmt: skip


def of_completions(length: np.ndarray, truncated: np.ndarray, total: np.ndarray, success: np.ndarray) -> Values:
    """`completions/`."""
    p50, p95 = np.quantile(length, (0.5, 0.95))
    ended = length[~truncated]
    return {
        "completions/length_mean": length.mean(), "completions/length_min": length.min(),
        "completions/length_max": length.max(), "completions/length_p50": p50, "completions/length_p95": p95,
        "completions/length_histogram": counts(length, LENGTH_EDGES),
        "completions/terminated_length_mean": ended.mean(), "completions/terminated_length_min": ended.min(),
        "completions/terminated_length_max": ended.max(), "completions/truncated_fraction": truncated.mean(),
        "completions/length_reward_correlation": np.corrcoef(length, total)[0, 1],
        "completions/length_correct": length[success].mean(),
        "completions/length_incorrect": length[~success].mean(),
    }  # fmt: skip


def counts(x: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """How many fall into each bin."""
    return np.bincount(np.searchsorted(np.array(edges[1:-1], np.float32), x, side="right"), minlength=len(edges) - 1)
