"""From the arrays of a rollout to the statistics of its metric families: pure, so that it can be traced anywhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from math import ceil
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toolkit.metrics.advantages import advantage_metrics
from toolkit.metrics.blocks import ByRow, in_blocks
from toolkit.metrics.completions import completion_metrics
from toolkit.metrics.groups import group_metrics
from toolkit.metrics.policy import policy_metrics
from toolkit.metrics.rewards import reward_metrics, weighted_total
from toolkit.metrics.sampler import sampler_metrics
from toolkit.metrics.statistic import Statistic
from toolkit.metrics.volume import volume_metrics
from toolkit.rollout import Arrays
from toolkit.settings.metrics import Metrics

NEEDS: dict[str, tuple[str, ...]] = {
    "rewards": ("rewards", "group_ids?"),
    "groups": ("rewards", "group_size|group_ids"),
    "advantages": ("advantages", "mask?"),
    "policy": (
        *("mask", "logp|entropy|ref_kl"),
        *("old_logp?", "ref_logp?", "init_logp?", "advantages?", "rewards?"),
    ),
    "sampler": ("mask", "sampler_logp", "old_logp|logp"),
    "completions": ("mask", "truncated?", "rewards?"),
    "throughput": ("mask?", "group_ids?", "rewards?"),
}
"""The families over arrays, and the fields that each reads: `a|b` is met by either, and `a?` is not required."""


def family_statistics(
    have: Arrays, families: frozenset[str], settings: Metrics, group_size: int | None
) -> dict[str, Statistic]:
    """The statistics of the families, by key; each needs the fields that `NEEDS` names for it."""
    known = _completed(_cast(have), settings, group_size)
    rows, mask, group, rewards = (known[name] for name in ("rows", "mask", "group", "rewards"))
    found: dict[str, Statistic] = {}
    if "rewards" in families:
        found |= reward_metrics(rewards, known["weights"], rows, group)
    if "groups" in families:
        found |= group_metrics(known["total"], group, rows, known["success"], settings.groups.pass_at)
    if "advantages" in families:
        found |= advantage_metrics(known["advantages"], rows, mask)
    if "policy" in families:
        found |= in_blocks(partial(_policy, settings=settings), _sampled(known, settings.policy.sampling_ratio))
    if "sampler" in families:
        found |= in_blocks(_sampler, _sampled(known, settings.sampler.sampling_ratio))
    if "completions" in families:
        found |= completion_metrics(mask, rows, known["truncated"], known["total"], known["success"])
    if "throughput" in families:
        found |= volume_metrics(rows, mask, group)
    return found


def _policy(by_row: ByRow, settings: Metrics) -> dict[str, Statistic]:
    clip = (settings.policy.clip_low, settings.policy.clip_high)
    return policy_metrics(**{name: by_row[name] for name in _OF_POLICY}, clip=clip)


def _sampler(by_row: ByRow) -> dict[str, Statistic]:
    # The trainer's logprob of the policy that sampled: where several updates share a rollout, the old one.
    own = by_row["logp"] if by_row["old_logp"] is None else by_row["old_logp"]
    return sampler_metrics(by_row["mask"], own, by_row["sampler_logp"])


def _completed(have: Arrays, settings: Metrics, group_size: int | None) -> Mapping[str, Any]:
    """The arrays with what follows from them; a field that is not there is None."""
    known: defaultdict[str, Any] = defaultdict(lambda: None, have)
    batch = len(jax.tree.leaves({name: value for name, value in have.items() if name not in _SCALARS})[0])
    if "rows" not in have:
        known["rows"] = jnp.ones(batch, bool)
    known["group"] = known["group_ids"] if group_size is None else jnp.arange(batch, dtype=jnp.int32) // group_size
    if known["rewards"]:
        known["total"] = weighted_total(known["rewards"], known["weights"])
        known["success"] = _success(known["rewards"], settings)
    return known


def _success(rewards: Mapping[str, Array], settings: Metrics) -> Float[Array, " batch"] | None:
    """1 where a completion succeeds, 0 where it does not, NaN where the function gave no finite reward."""
    name = settings.success.reward
    if not name or name not in rewards:
        return None
    succeeds = (rewards[name] > settings.success.threshold).astype(jnp.float32)
    return jnp.where(jnp.isfinite(rewards[name]), succeeds, jnp.nan)


def _sampled(known: Mapping[str, Any], ratio: float) -> ByRow:
    """The arrays of a share of the completions, drawn by the step alone: the same step takes the same rows again."""
    by_row = {name: known[name] for name in (*_OF_POLICY, "sampler_logp")}
    if ratio == 1:
        return by_row
    rows = known["rows"]
    drawn = jnp.where(rows, jax.random.uniform(jax.random.key(known["step"]), rows.shape), jnp.inf)
    order = jnp.argsort(drawn)[: ceil(ratio * len(rows))]
    taken = {name: None if array is None else array[order] for name, array in by_row.items()}
    # What is over is padding.
    kept = jnp.arange(len(order), dtype=jnp.float32) < jnp.ceil(ratio * jnp.sum(rows, dtype=jnp.float32))
    return {**taken, "mask": known["mask"][order] & kept[:, None]}


_OF_POLICY = (
    *("mask", "logp", "old_logp", "ref_logp", "init_logp", "ref_kl", "entropy"),
    *("advantages", "success"),
)
_SCALARS = ("weights", "step")

_DTYPES: dict[str, Any] = {
    "rows": bool,
    "mask": bool,
    "truncated": bool,
    "group_ids": jnp.int32,
    "offsets": jnp.int32,
    "step": jnp.int32,
}
"""What the kernels take where it is not float32; a user's own mask, for example, may be one of numbers."""


def _cast(have: Arrays) -> Arrays:
    def cast(name: str, value: Any) -> Any:
        dtype = _DTYPES.get(name, jnp.float32)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(dtype), value)

    return {name: cast(name, value) for name, value in have.items()}
