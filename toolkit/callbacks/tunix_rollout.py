"""What was copied from Tunix's learner, put together to the rollout of a step: on the worker thread, in NumPy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from toolkit.hold import joined
from toolkit.rollout import Rollout


@dataclass(slots=True, eq=False)
class Generation:
    """The completions of one call of the sampler and what was made of them, as Tunix handed them over.

    `ids` are each completion's tokens, `limit` of them at most, and `ends` those that end one. `logprobs` are the
    sampler's, at its temperature as in the loss; `current` says that it had the policy's weights. `old_logp` and
    `ref_logp` [batch, time] are Tunix's own, where it computes them; the old ones always at temperature 1. Rewards and
    seconds are by function.
    """

    prompts: Sequence[str] = ()
    completions: Sequence[str] = ()
    references: Sequence[Any] | None = None
    rewards: dict[str, Any] = field(default_factory=dict)
    latencies: dict[str, float] = field(default_factory=dict)
    advantages: Any = None
    ids: Sequence[Any] | None = None
    ends: frozenset[int] = frozenset()
    pad: int = 0
    limit: int = 0
    logprobs: Sequence[Any] | None = None
    temperature: float = 1.0
    current: bool = False
    old_logp: Any = None
    ref_logp: Any = None
    generation_s: float = 0.0


def rollout_of(generations: Sequence[Generation], group_size: int) -> Rollout:
    """The rollout of an optimiser step, from all that was generated for it; most steps have one generation.

    Its `logp` is the policy's before the step's first update. Without it the ratio and the KL are left out.
    """
    arrays = [_arrays(generation) for generation in generations]
    shared = set(arrays[0]).intersection(*arrays)
    stacked: Any = {name: _below([part[name] for part in arrays]) for name in sorted(shared)}
    return replace(joined([_texts(generation, group_size) for generation in generations]), **stacked)


def _texts(generation: Generation, group_size: int) -> Rollout:
    seconds = {"generation_s": generation.generation_s, "reward_s": sum(generation.latencies.values())}
    references = generation.references
    return Rollout(
        rewards={name: np.asarray(reward, np.float32) for name, reward in generation.rewards.items()},
        group_size=group_size,
        prompts=[str(prompt) for prompt in generation.prompts],
        completions=[str(completion) for completion in generation.completions],
        references=None if references is None else [each if each is None else str(each) for each in references],
        latencies=generation.latencies,
        timings={name: value for name, value in seconds.items() if value},
    )


def _arrays(generation: Generation) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    if generation.advantages is not None:
        found["advantages"] = np.asarray(generation.advantages, np.float32)
    if generation.ids is not None:
        found |= _tokens(generation, generation.ids)
    return found


def _tokens(generation: Generation, ids: Sequence[Any]) -> dict[str, np.ndarray]:
    """Which tokens are completion, which completions were cut off, and what is known of each token."""
    width = max(1, *(len(row) for row in ids))
    found = {
        "mask": _rows([np.asarray(row) != generation.pad for row in ids], width),
        "truncated": np.array([_is_cut_off(np.asarray(row).tolist(), generation) for row in ids]),
    }
    for name in ("old_logp", "ref_logp"):
        if (given := getattr(generation, name)) is not None:
            found[name] = np.asarray(given, np.float32)[:, :width]
    sampled = None if generation.logprobs is None else _rows(generation.logprobs, width)
    return {**found, **dict(_of_policy(generation, found.get("old_logp"), sampled))}


def _of_policy(
    generation: Generation, old: np.ndarray | None, sampled: np.ndarray | None
) -> Iterator[tuple[str, np.ndarray]]:
    """The logprobs under the policy: a forward pass of Tunix's where it is at the loss's temperature, or the sampler's.

    With both, the sampler's can be held against the policy's.
    """
    if not generation.current:
        return
    exact = old if generation.temperature in (0.0, 1.0) else None
    policy = sampled if exact is None else exact
    if policy is not None:
        yield "logp", policy
    if exact is not None and sampled is not None:
        yield "sampler_logp", sampled


def _is_cut_off(row: list[int], generation: Generation) -> bool:
    """Whether the limit ended the completion: samplers of Tunix's differ in whether they hand over the end token."""
    return len(row) >= generation.limit and row[-1] not in generation.ends


def _rows(rows: Iterable[Any], width: int) -> np.ndarray:
    """Rows of different lengths below each other, filled up with zeros."""
    return np.stack([np.pad(np.asarray(row), (0, width - len(row))) for row in rows])


def _below(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The parts below each other, those with a time axis filled up with zeros to the longest."""
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    return np.concatenate([_rows(part, max(other.shape[1] for other in parts)) for part in parts])
