"""Taking hold of a rollout on the training thread, so that another thread can read it while the training goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from toolkit.compilation import nans_allowed
from toolkit.rollout import ARRAYS, REWARD, TEXTS, WEIGHT, Arrays, Rollout, readable
from toolkit.shards import NO_ROWS, Spread, own_part, spans_processes

_TRACER = jax.core.Tracer
_ONE_EACH = tuple(name for name in ARRAYS if name != "rewards")


def hold(rollout: Rollout, names: Collection[str] = ARRAYS) -> Callable[[], Rollout]:
    """Take hold of these arrays of the rollout and of all its texts, sizes and timings: a function gives them later.

    Raises `RolloutError` when an array is traced or was donated.
    """
    entries = {name: value for name in _ONE_EACH if name in names and (value := getattr(rollout, name)) is not None}
    if "rewards" in names:
        entries |= {REWARD.format(name): reward for name, reward in rollout.rewards.items()}
        entries |= {WEIGHT.format(name): weight for name, weight in (rollout.weights or {}).items()}
    if any(spans_processes(value) for value in entries.values()):
        return _hold_own_part(rollout, entries)
    later, rest = hold_all(entries), _without_arrays(rollout)
    return lambda: _assembled(rest, later())


def _hold_own_part(rollout: Rollout, entries: Arrays) -> Callable[[], Rollout]:
    """Take hold of the rows that this process has of arrays over several; without any, an empty rollout comes of it."""
    spread = {name: Spread.of(name, value) for name, value in entries.items() if spans_processes(value)}
    others = hold_all({name: value for name, value in entries.items() if name not in spread})
    kept = {name: hold_all(_shard_data(array)) for name, array in spread.items()}
    return lambda: _own_part(rollout, others(), {name: _with_data(spread[name], kept[name]()) for name in spread})


def _own_part(rollout: Rollout, others: Arrays, spread: Mapping[str, Spread]) -> Rollout:
    by_row = [array for array in spread.values() if array.shape]
    if not by_row:
        return _assembled(rollout, others | {name: array.at(NO_ROWS) for name, array in spread.items()})
    of_rows = next((array for array in by_row if not array.everywhere), by_row[0])
    rows = of_rows.own_rows()
    rollout, held = own_part(rollout, {**others, **spread}, of_rows.shape[0], rows)
    return _assembled(rollout, held) if len(rows) else Rollout()


def _shard_data(array: Spread) -> Arrays:
    return {str(number): shard.data for number, shard in enumerate(array.shards)}


def _with_data(array: Spread, data: Arrays) -> Spread:
    return replace(array, shards=tuple(replace(shard, data=data[str(n)]) for n, shard in enumerate(array.shards)))


def hold_all(entries: Arrays) -> Callable[[], Arrays]:
    """Take hold of arrays and lists by name: what the host donates to its next step, or writes over, stays readable.

    Arrays of JAX are copied in one dispatch, without a wait. Raises `RolloutError` when one is traced or was donated.
    """
    on_device: Arrays = {}
    held: Arrays = {}
    for name, value in entries.items():
        if isinstance(value, jax.Array):
            on_device[name] = value
        else:  # a tensor of torch shares its storage with its copy
            held[name] = value.detach().clone() if hasattr(value, "detach") else copy(value)
    names, copies = tuple(on_device), _copied(on_device) if on_device else []
    return lambda: {**held, **{name: _on_one_device(array) for name, array in zip(names, copies, strict=False)}}


def _copied(arrays: Arrays) -> Sequence[Array]:
    # To look at every array costs as much as to copy them all: only where that failed it is asked which one it was.
    copies: Sequence[Array] = ()
    if _alone():
        with nans_allowed(), suppress(RuntimeError, ValueError):
            copies = _copies(*arrays.values())
    if not copies or any(isinstance(copied, _TRACER) for copied in copies):
        # Where all can be read, they lie on devices that one computation cannot take together.
        copies = [_copies(readable(name, array))[0] for name, array in arrays.items()]
    return copies


@cache
def _alone() -> bool:
    return bool(jax.process_count() == 1)


def _on_one_device(array: jax.Array) -> jax.Array | np.ndarray:
    # A computation over several devices must stay in the order of the training thread: two threads that each start
    # one can wait for each other for ever. Fetching is no such computation.
    return array if len(array.sharding.device_set) == 1 else np.asarray(array)


@jax.jit
def _copies(*arrays: Array) -> list[Array]:
    # Unlike those of device_put, these are not bound to a device, which jit would take for another kind of argument.
    copies = [jnp.copy(array) for array in arrays]
    # On a CPU, JAX runs a computation of few operations on the thread that asks for it, and copies count as none.
    ballast: Array = jax.lax.optimization_barrier(jnp.arange(4096.0))  # type: ignore[no-untyped-call]  # JAX has none
    return [*copies, jnp.sum(jnp.sin(ballast))]


def _without_arrays(rollout: Rollout) -> Rollout:
    """The names in the place of the arrays, which would stay in memory beside their copies."""
    named = {name: dict.fromkeys(getattr(rollout, name) or ()) for name in ("rewards", "weights")}
    nothing: Any = {**dict.fromkeys(_ONE_EACH), **named}
    return replace(rollout, **nothing)


def _assembled(rollout: Rollout, held: Arrays) -> Rollout:
    """The rollout with what is held in the place of its arrays."""
    fields = {name: held.get(name) for name in _ONE_EACH}
    rewards = {name: held[key] for name in rollout.rewards if (key := REWARD.format(name)) in held}
    weights = {name: held[key] for name in rollout.weights or {} if (key := WEIGHT.format(name)) in held}
    return replace(rollout, **fields, rewards=rewards, weights=weights or None)


def joined(parts: Sequence[Rollout]) -> Rollout:
    """The parts of one step as one rollout, with what there is of each completion; tokens and group ids stay behind."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    rewards = {
        name: np.concatenate([np.asarray(part.rewards[name], np.float32) for part in parts]) for name in first.rewards
    }
    texts: Any = {name: [text for part in parts for text in getattr(part, name) or ()] or None for name in TEXTS}
    seconds: Any = {name: _added([getattr(part, name) for part in parts]) for name in ("timings", "latencies")}
    return Rollout(rewards=rewards, weights=first.weights, group_size=first.group_size, **texts, **seconds)


def _added(seconds: Sequence[Mapping[str, float] | None]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for part in seconds:
        total.update(part or {})
    return dict(total)
