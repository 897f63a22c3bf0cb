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

REWARD, WEIGHT = "rewards[{!r}]", "weights[{!r}]"
"""How one reward, and its weight, is named where fields are."""

SHORTEST = 64
"""The smallest bucket of the time axis."""

_static: Any = {"static": True}
_BY_TOKEN = ("mask", "logp", "old_logp", "ref_logp", "init_logp", "sampler_logp", "entropy", "ref_kl", "offsets")
_BY_COMPLETION = ("advantages", "group_ids", "truncated")
_ONE_EACH = (*_BY_TOKEN, *_BY_COMPLETION)
ARRAYS = ("rewards", *_ONE_EACH)
"""The fields that hold arrays."""

TEXTS = ("prompts", "completions", "references")
_AXES = {1: "[batch]", 2: "[batch, time]"}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, kw_only=True)
class Rollout:
    """The arrays and texts of one step; every field is optional, and a metric whose fields are missing is left out.

    `rewards` has a vector a reward function, NaN where it gave none, and `weights` their weights (1 by default). A
    group is the completions of one prompt: `group_size` for groups in consecutive rows, or `group_ids` in 0..batch-1.
    `mask` keeps the tokens of the completion. `logp` is the logprob of each token under the policy, as the loss saw
    it; `old_logp` under the policy that the ratio divides by, `ref_logp` under the reference, `init_logp` under the
    policy before the first step, `sampler_logp` as the sampler gave it, all in nats. `entropy` is a token's and
    `ref_kl` its exact KL to the reference, in nats; `offsets` is the byte of the completion, in UTF-8, at which a token
    starts. `truncated` marks completions without an end token. Prompts, completions and references are text, a row
    each, where a reference may be None; `timings` is seconds by name, such as `generation_s`, and `latencies` seconds
    by reward function.

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
    init_logp: Float[AnyArray, "batch time"] | None = None
    sampler_logp: Float[AnyArray, "batch time"] | None = None
    entropy: Float[AnyArray, "batch time"] | None = None
    ref_kl: Float[AnyArray, "batch time"] | None = None
    offsets: Int[AnyArray, "batch time"] | None = None
    truncated: Bool[AnyArray, " batch"] | None = None
    group_size: int | None = field(default=None, metadata=_static)
    prompts: Sequence[str] | None = field(default=None, metadata=_static)
    completions: Sequence[str] | None = field(default=None, metadata=_static)
    references: Sequence[str | None] | None = field(default=None, metadata=_static)
    timings: Mapping[str, float] | None = field(default=None, metadata=_static)
    latencies: Mapping[str, float] | None = field(default=None, metadata=_static)


def is_empty(rollout: Rollout) -> bool:
    """Whether it has neither rewards nor arrays nor texts."""
    return not rollout.rewards and all(getattr(rollout, name) is None for name in (*_ONE_EACH, *TEXTS))


def arrays(rollout: Rollout, traced: bool = False) -> Arrays:
    """The fields of the rollout that are arrays and are there, ready for one jitted computation.

    Arrays on the host are padded to a few bucket sizes, so that a length that changes does not recompile, and `rows`
    marks the rows that are completions; arrays of JAX keep the shapes that the user's own step was compiled for. Raises
    `RolloutError` when shapes do not fit together, or an array was donated, or is traced unless that is allowed.
    """
    found: Arrays = {name: getattr(rollout, name) for name in (*_BY_TOKEN, *_BY_COMPLETION)}
    found = {name: readable(name, value, traced) for name, value in found.items() if value is not None}
    # In the order that JAX gives the keys of a mapping, which the weights follow.
    rewards = {name: readable(REWARD.format(name), rollout.rewards[name], traced) for name in sorted(rollout.rewards)}
    batch = _batch(rollout, found, rewards)
    _check_groups(found.get("group_ids"), rollout.group_size, batch)
    if rewards:
        found |= {"rewards": rewards, "weights": _weights(rollout, traced)}
    if not all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(found)):
        return found
    return padded({**found, "rows": np.ones(batch, bool)}, bucket(batch))


def bucket(size: int, smallest: int = 16, factor: int = 4) -> int:
    """The first of 16, 64, 256, ... (by `factor`) that holds `size`: few sizes, so few compilations."""
    while smallest < size:
        smallest *= factor
    return smallest


def readable(name: str, value: Any, traced: bool = False) -> Any:
    """The array, if it can be read now: on the host a copy as float32 or bool, on the device as it is."""
    if type(value) is np.ndarray:  # to ask whether it is one of JAX's takes longer
        return _host_array(name, value)
    if isinstance(value, jax.core.Tracer):
        if traced:
            return value
        raise RolloutError(
            f"{name} is traced: the rollout was observed inside jit, grad or scan. Return its arrays, or what "
            "toolkit.statistics makes of them, from the jitted step and observe what it returned"
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
    for name, value in {**found, **{REWARD.format(name): reward for name, reward in rewards.items()}}.items():
        allowed = (1, 2) if name == "advantages" else (2,) if name in _BY_TOKEN else (1,)
        if value.ndim not in allowed:
            expected = " or ".join(_AXES[axes] for axes in allowed)
            raise RolloutError(f"{name} has shape {value.shape}: expected {expected}, a row a completion")
        yield name, len(value)
    for name in TEXTS:
        texts = getattr(rollout, name)
        if texts is not None:
            yield name, len(texts)


def _check_groups(ids: Any, size: int | None, batch: int) -> None:
    """Refuse groups that cannot be; ids on the device are not fetched to be checked."""
    if size is not None and (size < 1 or batch % size):
        raise RolloutError(f"group_size {size} does not divide the {batch} completions: give group_ids instead")
    if isinstance(ids, np.ndarray) and not ((ids >= 0) & (ids < batch) & (ids == ids.round())).all():
        raise RolloutError(f"group_ids must be whole numbers in 0..{batch - 1}, one less than the completions")


def _weights(rollout: Rollout, traced: bool) -> AnyArray:
    """The weights of the rewards, 1 where none is given, in the order of the names."""
    given = rollout.weights or {}
    unknown = sorted(set(given) - set(rollout.rewards))
    if unknown:
        raise RolloutError(f"weights name {unknown}, but the rewards are {sorted(rollout.rewards)}")
    if "total" in rollout.rewards:
        raise RolloutError("a reward cannot be named 'total': that is the weighted total's name")
    numbers = [readable(WEIGHT.format(name), given.get(name, 1.0), traced) for name in sorted(rollout.rewards)]
    if any(isinstance(number, jax.Array) for number in numbers):
        return jnp.stack([jnp.asarray(number, jnp.float32) for number in numbers])
    return np.array(numbers, np.float32)


def padded(found: Arrays, rows: int) -> Arrays:
    """Every array at a bucket size, with zeros added: where there is `rows` or a mask it is False there."""

    def pad(leaf: np.ndarray) -> np.ndarray:
        return with_zeros(leaf, (rows, *(bucket(length, SHORTEST) for length in leaf.shape[1:])))

    return {name: value if name == "weights" else jax.tree.map(pad, value) for name, value in found.items()}


def with_zeros(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array with zeros after its entries up to this shape; a tenth of the time of `numpy.pad`."""
    if array.shape == shape:
        return array
    longer = np.zeros(shape, array.dtype)
    longer[tuple(map(slice, array.shape))] = array
    return longer
