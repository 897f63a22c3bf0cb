"""`measure`: the enabled metric families as one jitted computation over a rollout, one vector, one transfer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from math import isnan
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from toolkit.config import Metrics
from toolkit.metrics.advantages import advantage_metrics
from toolkit.metrics.completions import completion_metrics
from toolkit.metrics.format import format_metrics
from toolkit.metrics.groups import group_metrics, group_sum
from toolkit.metrics.policy import policy_metrics, sampler_metrics
from toolkit.metrics.reduction import Bins, count
from toolkit.metrics.rewards import reward_metrics, weighted_total
from toolkit.record import Histogram, Value
from toolkit.rollout import Arrays, Rollout, arrays


@dataclass(frozen=True)
class Column:
    """Where one metric lies in the packed vector: `size` entries, the counts of a histogram when it has edges."""

    key: str
    size: int
    edges: tuple[float, ...] | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Measurement:
    """Every metric of a step in one float32 vector, with the static table that says what is where."""

    vector: Float[Array, " metrics"]
    columns: tuple[Column, ...] = field(metadata={"static": True})

    def values(self) -> dict[str, Value]:
        """The metrics by key, fetched in one transfer; waits for the computation, so call it off the training thread.

        A metric without a value (NaN: a mean over nothing) is left out.
        """
        host = np.asarray(self.vector, np.float64)
        numbers = host.tolist()
        values: dict[str, Value] = {}
        start = 0
        for column in self.columns:
            if column.edges is not None:
                values[column.key] = Histogram(host[start : start + column.size], np.array(column.edges))
            elif not isnan(numbers[start]):
                values[column.key] = numbers[start]
            start += column.size
        return values


NEEDS: dict[str, tuple[str, ...]] = {
    "rewards": ("rewards",),
    "groups": ("rewards", "group_size|group_ids"),
    "advantages": ("advantages",),
    "policy": ("mask", "logp|entropy"),
    "sampler": ("mask", "sampler_logp", "old_logp|logp"),
    "completions": ("mask",),
    "format": ("completions",),
    "throughput": (),
}
"""The families that `measure` computes, and the fields of the rollout each needs; `a|b` is met by either."""


def measure(
    rollout: Rollout,
    settings: Metrics | None = None,
    families: frozenset[str] | None = None,
    step_s: float | None = None,
) -> Measurement:
    """Measure the rollout: one dispatch of one compiled function, without waiting for its result.

    `families` are those to compute (all that `settings` switches on) and `step_s` the seconds that the step took,
    without which there is no throughput. What the rollout has no fields for is left out. Raises `RolloutError` when
    shapes do not fit together, or an array is traced or was donated.
    """
    settings = settings or Metrics()
    families = settings.due(0) if families is None else families
    computable = families.intersection(NEEDS).difference(missing(rollout, families))
    have = arrays(rollout, with_text="format" in computable)
    # Without a time the throughput is NaN, which is no value: the first step compiles nothing of its own.
    have["step_s"] = np.float32(np.nan if step_s is None else step_s)
    measurement: Measurement = _packed(have, settings, computable)
    return measurement


def missing(rollout: Rollout, families: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """The families that the rollout cannot give, each with the fields that it lacks."""
    empty = {name for name in (field.name for field in fields(rollout)) if not _given(getattr(rollout, name))}
    lacking = {
        family: tuple(need for need in NEEDS[family] if empty.issuperset(need.split("|")))
        for family in sorted(families.intersection(NEEDS))
    }
    return {family: needs for family, needs in lacking.items() if needs}


def _given(value: Any) -> bool:
    return bool(value) if isinstance(value, Mapping) else value is not None


def compilations() -> int:
    """How many times `measure` met a new shape or a new choice of families in this process."""
    return _traces[0]


_traces = [0]


@partial(jax.jit, static_argnums=(1, 2))
def _packed(have: Arrays, settings: Metrics, families: frozenset[str]) -> Measurement:
    _traces[0] += 1  # Python runs here only while JAX traces
    found = _statistics(have, settings, families)
    columns, parts = [], []
    for key, value in found.items():
        edges = value.edges if isinstance(value, Bins) else None
        part = jnp.atleast_1d(value.counts if isinstance(value, Bins) else value).astype(jnp.float32)
        columns.append(Column(key, part.size, edges))
        parts.append(part)
    vector = jnp.concatenate(parts) if parts else jnp.zeros(0, jnp.float32)
    return Measurement(vector, tuple(columns))


def _statistics(have: Arrays, settings: Metrics, families: frozenset[str]) -> dict[str, Array | Bins]:
    """The metrics of the families, by key, as arrays inside the trace."""
    have = defaultdict(lambda: None, _cast(have))  # a field that is not there is None
    rows, mask, group, rewards, weights = (have[name] for name in ("rows", "mask", "group", "rewards", "weights"))
    total: Any = weighted_total(rewards, weights) if rewards else None
    success = _success(rewards, settings)
    metrics: dict[str, Array | Bins] = {}
    if "rewards" in families:
        metrics |= reward_metrics(rewards, weights, rows, group)
    if "groups" in families:
        metrics |= group_metrics(total, group, rows, success, settings.groups.pass_at)
    if "advantages" in families:
        metrics |= advantage_metrics(have["advantages"], rows, mask)
    if "policy" in families:
        taken = {name: have[name] for name in ("logp", "old_logp", "ref_logp", "entropy", "advantages")}
        metrics |= policy_metrics(mask, **taken, clip=(settings.policy.clip_low, settings.policy.clip_high))
    if "sampler" in families:
        # The trainer's logprob of the policy that sampled: where several updates share a rollout, the old one.
        own = have["logp"] if have["old_logp"] is None else have["old_logp"]
        metrics |= sampler_metrics(mask, own, have["sampler_logp"])
    if "completions" in families:
        metrics |= completion_metrics(mask, rows, have["truncated"], total, success)
    if "format" in families:
        metrics |= format_metrics(have["text"], have["text_length"], rows, settings.format.tags)
    if "throughput" in families:
        metrics |= _throughput(rows, mask, group, have["step_s"])
    return metrics


def _success(rewards: Mapping[str, Array] | None, settings: Metrics) -> Float[Array, " batch"] | None:
    """1 where a completion succeeds, 0 where it does not, NaN where the function gave no reward."""
    name = settings.success.reward
    if not name or not rewards or name not in rewards:
        return None
    succeeds = (rewards[name] > settings.success.threshold).astype(jnp.float32)
    return jnp.where(jnp.isnan(rewards[name]), jnp.nan, succeeds)


def _throughput(
    rows: Bool[Array, " batch"],
    mask: Bool[Array, "batch time"] | None,
    group: Int[Array, " batch"] | None,
    step_s: Float[Array, ""],
) -> dict[str, Array | Bins]:
    """Completions, examples (prompts) and completion tokens of the step for each of its seconds."""
    rates: dict[str, Array | Bins] = {"throughput/completions_per_s": count(rows) / step_s}
    if group is not None:
        sizes = group_sum(jnp.ones(rows.shape, jnp.float32), group, rows)
        rates["throughput/examples_per_s"] = count(sizes > 0) / step_s
    if mask is not None:
        rates["throughput/tokens_per_s"] = count(mask) / step_s
    return rates


_DTYPES: dict[str, Any] = {
    "rows": bool,
    "mask": bool,
    "truncated": bool,
    "group": jnp.int32,
    "text": jnp.uint8,
    "text_length": jnp.int32,
}
"""What the kernels take where it is not float32; a user's own mask, for example, may be one of numbers."""


def _cast(have: Arrays) -> Arrays:
    def cast(name: str, value: Any) -> Any:
        dtype = _DTYPES.get(name, jnp.float32)
        return jax.tree.map(lambda leaf: leaf.astype(dtype), value)

    return {name: cast(name, value) for name, value in have.items()}
