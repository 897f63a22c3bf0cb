"""The metric families as one computation over a rollout: in a jitted step of the user's, or as one of our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from toolkit.compilation import count_compilation, nans_allowed, on_any_mesh
from toolkit.errors import RolloutError
from toolkit.families import NEEDS, family_statistics
from toolkit.measurement import Measurement, Statistics, merge
from toolkit.rollout import Arrays, Rollout, arrays
from toolkit.settings.metrics import Metrics
from toolkit.share import Share, packed

_FIELDS = tuple(each.name for each in fields(Rollout))


@dataclass(frozen=True)
class Plan:
    """What is compiled: the families to compute, their settings, and the size of groups in consecutive rows."""

    families: frozenset[str]
    settings: Metrics = field(hash=False)  # a hundred settings, that are the same ones every time
    group_size: int | None

    @property
    def sampled(self) -> bool:
        """Whether a family takes a share of the rows, and so needs the step that decides which."""
        return any(getattr(getattr(self.settings, family), "sampling_ratio", 1) < 1 for family in self.families)


def measure(
    rollout: Rollout | Sequence[Rollout],
    settings: Metrics | None = None,
    families: frozenset[str] | None = None,
    step: int = 0,
) -> Measurement:
    """Measure a rollout, or several that are parts of one step: one dispatch of one compiled function, and no wait.

    `families` are those to compute: all that `settings` switches on, unless given. What the rollout has no fields for
    is left out. The step decides which rows are taken where a family has a `sampling_ratio`. Raises `RolloutError` when
    shapes do not fit together, or an array is traced or was donated.
    """
    measurement: Measurement = _computed(rollout, settings, families, step, Statistics.finished)
    return measurement


def measure_share(rollouts: Sequence[Rollout], settings: Metrics, families: frozenset[str], step: int = 0) -> Share:
    """As `measure`, but of one process among several: what is to be merged with the others' before it is finished."""
    share: Share = _computed(rollouts, settings, families, step, packed)
    return share


def _computed(
    rollout: Rollout | Sequence[Rollout],
    settings: Metrics | None,
    families: frozenset[str] | None,
    step: int,
    ending: Callable[[Statistics], Any],
) -> Any:
    parts = (rollout,) if isinstance(rollout, Rollout) else tuple(rollout)
    plan = _common([planned(part, settings, families) for part in parts])
    with nans_allowed():
        return _measured([inputs(part, plan, step) for part in parts], plan, ending)


def _common(plans: Sequence[Plan]) -> Plan:
    """The plan that all parts of a step share; raises `RolloutError` where they differ."""
    if not plans:
        raise RolloutError("a step needs at least one part")
    given = [plan.families for plan in plans]
    if odd := sorted(frozenset.union(*given) - frozenset.intersection(*given)):
        raise RolloutError(f"parts of one step must have the same fields; not all of them give {', '.join(odd)}")
    if len(set(plans)) > 1:
        raise RolloutError(
            f"parts of one step must have the same group_size, got {[plan.group_size for plan in plans]}"
        )
    return plans[0]


def statistics(
    rollout: Rollout,
    settings: Metrics | None = None,
    families: frozenset[str] | None = None,
    step: int | Int[Array, ""] = 0,
) -> Statistics:
    """What `measure` is made of, to be merged with other parts: a pure function, for `jit`, `scan` and shardings too.

    The arrays of the rollout may be traced, and so may the step. The completions of a group belong into one part.
    """
    plan = planned(rollout, settings, families)
    return _statistics(inputs(rollout, plan, step, traced=True), plan)


def finished(measured: Measurement | Statistics) -> Measurement:
    """The measurement that a loop's own jitted step returned, or what its statistics give."""
    return measured if isinstance(measured, Measurement) else _finished(measured)


def share(found: Statistics) -> Share:
    """The statistics of one process that a loop's own jitted step returned, to be merged with the others'."""
    packing: Share = _packed(found)
    return packing


@jax.jit
def _finished(found: Statistics) -> Measurement:
    return found.finished()


_packed = jax.jit(packed)


def planned(rollout: Rollout, settings: Metrics | None, families: frozenset[str] | None) -> Plan:
    """The families that are asked for and that the rollout has the fields of."""
    settings = settings or Metrics()
    families = settings.due(0) if families is None else families
    lacking = missing(rollout, families)
    return Plan(families.intersection(NEEDS).difference(lacking), settings, rollout.group_size)


def inputs(rollout: Rollout, plan: Plan, step: Any, traced: bool = False) -> Arrays:
    """The arrays that the plan is computed from; raises `RolloutError` as `arrays` does."""
    have = arrays(rollout, traced)
    if plan.sampled:
        have["step"] = jnp.asarray(step, jnp.int32)
    return have


def missing(
    rollout: Rollout, families: frozenset[str], needs: Mapping[str, tuple[str, ...]] = NEEDS
) -> dict[str, tuple[str, ...]]:
    """The families that the rollout cannot give, each with the fields that it lacks."""
    empty = frozenset(name for name in _FIELDS if not _given(getattr(rollout, name)))
    wanted = tuple((family, needs[family]) for family in sorted(families.intersection(needs)))
    return dict(_lacking(wanted, empty))


@cache
def _lacking(
    wanted: tuple[tuple[str, tuple[str, ...]], ...], empty: frozenset[str]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each family whose needs a rollout with these empty fields cannot meet, with what is lacking."""
    found = (
        (family, tuple(need for need in needs if need[-1] != "?" and empty.issuperset(need.split("|"))))
        for family, needs in wanted
    )
    return tuple((family, lacks) for family, lacks in found if lacks)


def fields_read(families: frozenset[str], needs: Mapping[str, tuple[str, ...]] = NEEDS) -> set[str]:
    """The fields of a rollout that these families read."""
    return {
        name
        for family in families.intersection(needs)
        for need in needs[family]
        for name in need.rstrip("?").split("|")
    }


def _given(value: Any) -> bool:
    return bool(value) if isinstance(value, Mapping) else value is not None


@partial(jax.jit, static_argnums=(1, 2))
def _measured(parts: Sequence[Arrays], plan: Plan, ending: Callable[[Statistics], Any]) -> Any:
    count_compilation()
    return ending(merge(*(_statistics(have, plan) for have in parts)))


def _statistics(have: Arrays, plan: Plan) -> Statistics:
    def found(have: Arrays) -> Statistics:
        return Statistics(family_statistics(have, plan.families, plan.settings, plan.group_size))

    whole: Statistics = on_any_mesh(found, have)
    return whole
