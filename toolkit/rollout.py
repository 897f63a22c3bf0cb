"""What one GRPO step produced: the one batch record that every host fills and every metric reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from toolkit.errors import RolloutError

Arrays: TypeAlias = dict[str, Any]
AnyArray: TypeAlias = Array | np.ndarray

_static: Any = {"static": True}
_BY_TOKEN = ("mask", "logp", "old_logp", "ref_logp", "sampler_logp", "entropy")
_BY_COMPLETION = ("advantages", "group_ids", "truncated")
_TEXTS = ("prompts", "completions", "references")
_AXES = {1: "[batch]", 2: "[batch, time]"}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, kw_only=True)
class Rollout:
    """The arrays and texts of one step; every field is optional, and a metric whose fields are missing is left out.

    `rewards` has a vector a reward function, NaN where it gave none, and `weights` their weights (1 by default). A
    group is the completions of one prompt: `group_size` for groups in consecutive rows, or `group_ids` in 0..batch-1.
    `mask` keeps the tokens of the completion. `logp` is the logprob of each token under the policy, as the loss saw
    it; `old_logp` under the policy that the ratio divides by, `ref_logp` under the reference, `sampler_logp` as the
    sampler gave it, all in nats. `entropy` is a token's, in nats; `truncated` marks completions without an end token.
    Prompts, completions and references are text, a row each; `timings` is seconds by name, such as `generation_s`.

    A pytree whose texts, sizes and timings are static, so that a jitted step can return one.
    """

    rewards: Mapping[str, Float[AnyArray, " batch"] | Sequence[float | None]] = field(default_factory=dict)
    weights: Mapping[str, float] | None = None
    advantages: Float[AnyArray, " batch *time"] | None = None
    group_ids: Int[AnyArray, " batch"] | None = None
    mask: Bool[AnyArray, "batch time"] | None = None
    logp: Float[AnyArray, "batch time"] | None = None
    old_logp: Float[AnyArray, "batch time"] | None = None
    ref_logp: Float[AnyArray, "batch time"] | None = None
    sampler_logp: Float[AnyArray, "batch time"] | None = None
    entropy: Float[AnyArray, "batch time"] | None = None
    truncated: Bool[AnyArray, " batch"] | None = None
    group_size: int | None = field(default=None, metadata=_static)
    prompts: Sequence[str] | None = field(default=None, metadata=_static)
    completions: Sequence[str] | None = field(default=None, metadata=_static)
    references: Sequence[str] | None = field(default=None, metadata=_static)
    timings: Mapping[str, float] | None = field(default=None, metadata=_static)


def arrays(rollout: Rollout, with_text: bool = True) -> Arrays:
    """The fields of the rollout that are there, ready for one jitted computation.

    `rows` marks the rows that are completions; `group` is the group id of each; `text` [batch, bytes] and
    `text_length` are the completions in UTF-8. Arrays on the host are padded to a few bucket sizes, so that a length
    that changes does not recompile; arrays of JAX keep the shapes that the user's own step was compiled for. Raises
    `RolloutError` when shapes do not fit together, or an array is traced or was donated.
    """
    found: Arrays = {name: getattr(rollout, name) for name in (*_BY_TOKEN, *_BY_COMPLETION)}
    found = {name: _readable(name, value) for name, value in found.items() if value is not None}
    rewards = {name: _readable(f"rewards[{name!r}]", value) for name, value in rollout.rewards.items()}
    batch = _batch(rollout, found, rewards)
    found["rows"] = np.ones(batch, bool)
    group = _groups(found.pop("group_ids", None), rollout.group_size, batch)
    if group is not None:
        found["group"] = group
    if rewards:
        found |= {"rewards": rewards, "weights": _weights(rollout)}
    if with_text and rollout.completions is not None:
        found["text"], found["text_length"] = utf8(rollout.completions)
    on_device = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    return found if on_device else _padded(found, batch)


def hold(rollout: Rollout) -> Rollout:
    """A copy that nothing changes: what the host donates to its next step, or writes over, stays readable in it.

    One dispatch for all arrays of JAX, and no wait. Raises `RolloutError` when an array is traced or was donated.
    """
    leaves, structure = jax.tree.flatten(rollout)
    on_device = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]
    if not all(map(_is_there, on_device)):
        arrays(rollout)  # raises, and knows the name of the field
    copies = iter(_copies(*on_device))
    held = [next(copies) if isinstance(leaf, jax.Array) else _copy(leaf) for leaf in leaves]
    copied: Rollout = jax.tree.unflatten(structure, held)
    return copied


@jax.jit
def _copies(*arrays: Array) -> list[Array]:
    # Unlike those of device_put, these are not bound to a device, which jit would take for another kind of argument.
    return [jnp.copy(array) for array in arrays]


def _copy(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _is_there(array: Array) -> bool:
    return not isinstance(array, jax.core.Tracer) and not array.is_deleted() and array.is_fully_addressable


def utf8(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The texts as rows of UTF-8 bytes, padded with zeros to a bucket, and the length of each in bytes.

    What is not valid Unicode (a lone surrogate) becomes a question mark.
    """
    encoded = [text.encode("utf-8", "replace") for text in texts]
    lengths = np.array([len(row) for row in encoded], np.int32)
    width = bucket(int(lengths.max(initial=0)))
    joined = b"".join(row.ljust(width, b"\0") for row in encoded)
    return np.frombuffer(joined, np.uint8).reshape(len(encoded), width), lengths


def bucket(size: int, smallest: int = 16) -> int:
    """The smallest of 16, 64, 256, 1024, ... that holds `size`: few sizes, so few compilations."""
    while smallest < size:
        smallest *= 4
    return smallest


def _readable(name: str, value: Any) -> Any:
    """The array, if it can be read now: on the host a copy as float32 or bool, on the device as it is."""
    if isinstance(value, jax.core.Tracer):
        raise RolloutError(
            f"{name} is traced: the rollout was observed inside jit, grad or scan. Return its arrays from the "
            "jitted step and observe what it returned"
        )
    if isinstance(value, jax.Array):
        if value.is_deleted():
            raise RolloutError(
                f"{name} was donated to a later computation and is gone. Observe the rollout before the step that "
                "takes its buffers, or leave it out of donate_argnums"
            )
        if not value.is_fully_addressable:
            raise RolloutError(
                f"{name} is spread over several processes, and one of them alone cannot read it: observe what each "
                "has of it, or an array that every process has whole"
            )
        return value
    return _host_array(name, value)


def _host_array(name: str, value: Any) -> np.ndarray:
    try:
        # A None, where a function gave no reward, becomes NaN.
        return np.asarray(value).astype(bool if name in ("mask", "truncated") else np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RolloutError(f"{name} is not an array of numbers: {error}") from error


def _batch(rollout: Rollout, found: Arrays, rewards: Arrays) -> int:
    """The number of completions, on which every field must agree; so must [batch, time] fields on their shape."""
    rows = list(_row_counts(rollout, found, rewards))
    if not any(size for _, size in rows):
        raise RolloutError("the rollout is empty: it has neither rewards nor arrays nor completions")
    first, batch = rows[0]
    for name, size in rows:
        if size != batch:
            raise RolloutError(f"{name} has {size} rows, but {first} has {batch}: each needs one row a completion")
    by_token = [(name, value.shape) for name, value in found.items() if value.ndim == 2]
    for name, shape in by_token:
        first, known = by_token[0]
        if shape != known:
            raise RolloutError(f"{name} has shape {shape}, but {first} has {known}: each needs [batch, time]")
    return batch


def _row_counts(rollout: Rollout, found: Arrays, rewards: Arrays) -> Iterator[tuple[str, int]]:
    for name, value in {**found, **{f"rewards[{name!r}]": reward for name, reward in rewards.items()}}.items():
        allowed = (1, 2) if name == "advantages" else (2,) if name in _BY_TOKEN else (1,)
        if value.ndim not in allowed:
            expected = " or ".join(_AXES[axes] for axes in allowed)
            raise RolloutError(f"{name} has shape {value.shape}: expected {expected}, a row a completion")
        yield name, len(value)
    for name in _TEXTS:
        texts = getattr(rollout, name)
        if texts is not None:
            yield name, len(texts)


def _groups(ids: Any, size: int | None, batch: int) -> Any:
    """The group id of each completion, if groups are known; ids on the device are not fetched to be checked."""
    if size is not None:
        if size < 1 or batch % size:
            raise RolloutError(f"group_size {size} does not divide the {batch} completions: give group_ids instead")
        return np.arange(batch, dtype=np.int32) // size
    if not isinstance(ids, np.ndarray):
        return ids
    if not ((ids >= 0) & (ids < batch) & (ids == ids.round())).all():
        raise RolloutError(f"group_ids must be whole numbers in 0..{batch - 1}, one less than the completions")
    return ids.astype(np.int32)


def _weights(rollout: Rollout) -> Arrays:
    weights = rollout.weights or {}
    unknown = sorted(set(weights) - set(rollout.rewards))
    if unknown:
        raise RolloutError(f"weights name {unknown}, but the rewards are {sorted(rollout.rewards)}")
    if "total" in rollout.rewards:
        raise RolloutError("a reward cannot be named 'total': that is the weighted total's name")
    return {name: _readable(f"weights[{name!r}]", weights.get(name, 1.0)) for name in rollout.rewards}


def _padded(found: Arrays, batch: int) -> Arrays:
    """Every array at a bucket size; what is added is masked: rows False, group ids past every group."""
    rows = bucket(batch)

    def pad(name: str, value: np.ndarray) -> np.ndarray:
        target = (rows, *(bucket(length) for length in value.shape[1:]))
        fill = rows if name == "group" else 0
        widths = [(0, wanted - length) for wanted, length in zip(target, value.shape, strict=True)]
        return np.pad(value, widths, constant_values=fill)

    padded: Arrays = {name: pad(name, value) for name, value in found.items() if isinstance(value, np.ndarray)}
    if "rewards" in found:
        padded["rewards"] = {name: pad(name, value) for name, value in found["rewards"].items()}
        padded["weights"] = found["weights"]
    return padded
