"""What was copied from TRL's trainer, put together to the rollout of a step: on the worker thread, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from toolkit.callbacks.naming import reference_column
from toolkit.rollout import Rollout, with_zeros

Tensors: TypeAlias = dict[str, Any]
"""Tensors of torch by the names of a rollout's fields, and `tool_mask`."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The completions of one generation and what the reward functions gave for them, as TRL handed them over.

    `rewards` [rows, functions] are of all processes and NaN where there is none, everything else is of this one.
    `ids` are each completion's tokens, and `ends` those that end one. `process` is the number of this process.
    """

    rewards: Any
    names: tuple[str, ...]
    weights: Any
    group_size: int
    prompts: Sequence[Any]
    completions: Sequence[Any]
    references: Sequence[str | None] | None
    ids: Sequence[Sequence[int]]
    ends: frozenset[int]
    process: int = 0

    @property
    def own_rows(self) -> slice:
        """Which of the rewards are of this process: TRL gathers as many rows of each, one process below the other."""
        return slice(self.process * len(self.ids), (self.process + 1) * len(self.ids))


Seconds: TypeAlias = Mapping[str, float]


def references(rows: Sequence[Mapping[str, Any]]) -> list[str | None] | None:
    """The reference of each row of a dataset; None where it has none, and for a row without one."""
    column = reference_column(rows[0])
    return [None if row[column] is None else str(row[column]) for row in rows] if column else None


def rollout_of(
    scored: Sequence[Scored],
    generated: Sequence[Tensors],
    latencies: Seconds | None = None,
) -> Rollout:
    """The rollout of a step from its generations; most steps have one. `latencies` are a rollout's.

    Of several processes it has the rows of this one alone, without groups where they go on in the next.
    """
    own = _stacked(generated)
    tool_mask = own.pop("tool_mask", None)
    if not scored:
        return Rollout(**own, latencies=latencies or None)
    ids = [tokens for generation in scored for tokens in generation.ids]
    tokens = _tokens(ids, scored[0].ends, tool_mask)
    return Rollout(**_own_rewards(scored), **own, **_texts(scored), **tokens, latencies=latencies or None)


def rewards_of_all(scored: Sequence[Scored]) -> Rollout:
    """The rewards of all processes, in whole groups."""
    return Rollout(**_rewards([generation.rewards for generation in scored], scored[-1]))


def update_of(passes: Sequence[Tensors]) -> Rollout:
    """The token statistics of one optimiser step, of all its micro-batches.

    TRL has an old policy only where a generation serves several steps; elsewhere the ratio is 1 and is left out.
    """
    found = _stacked(passes)
    mask = found.pop("mask") * found.pop("tool_mask", 1)
    return Rollout(mask=mask.astype(bool), **found)


def _own_rewards(scored: Sequence[Scored]) -> dict[str, Any]:
    """The rewards of this process; with the size of the groups only where all of them are whole."""
    mine = [generation.rewards[generation.own_rows] for generation in scored]
    split = any(len(generation.ids) % generation.group_size for generation in scored)
    return _rewards(mine, scored[-1]) | ({"group_size": None} if split else {})


def _rewards(parts: Sequence[Any], last: Scored) -> dict[str, Any]:
    matrix = np.concatenate([_host(rewards) for rewards in parts])
    return {
        "rewards": dict(zip(last.names, matrix.T, strict=True)),
        "weights": dict(zip(last.names, _host(last.weights).tolist(), strict=True)),
        "group_size": last.group_size,
    }


def _texts(scored: Sequence[Scored]) -> dict[str, Any]:
    texts: dict[str, Any] = {
        "prompts": [text(prompt) for generation in scored for prompt in generation.prompts],
        "completions": [text(completion) for generation in scored for completion in generation.completions],
    }
    if scored[0].references is not None:
        texts["references"] = [answer for generation in scored for answer in generation.references or ()]
    return texts


def text(entry: Any) -> str:
    """A prompt or a completion as text; of a conversation, what its messages say, a line each."""
    if isinstance(entry, str):
        return entry
    contents = [message.get("content") or "" for message in entry]
    return "\n".join(content if isinstance(content, str) else _text_of_parts(content) for content in contents)


def _text_of_parts(parts: Sequence[Mapping[str, Any]]) -> str:
    return "".join(str(part.get("text") or "") for part in parts)


def _tokens(ids: Sequence[Sequence[int]], ends: frozenset[int], tool_mask: np.ndarray | None) -> dict[str, Any]:
    """Which tokens are completion, and which completions were cut off.

    From the tokens, as TRL's own mask lacks the truncated completions under `mask_truncated_completions`.
    """
    lengths = np.array([len(tokens) for tokens in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    if tool_mask is not None:
        mask &= tool_mask[:, : mask.shape[1]].astype(bool)
    return {"mask": mask, "truncated": np.array([tokens[-1] not in ends for tokens in ids])}


def _stacked(batches: Sequence[Tensors]) -> dict[str, Any]:
    """The tensors that every batch has, on the host, one batch below the other."""
    shared = set(batches[0]).intersection(*batches) if batches else set()
    return {name: _below([_host(batch[name]) for batch in batches]) for name in sorted(shared)}


def _below(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The parts below each other, those with a time axis padded with zeros to the longest."""
    if len(parts) == 1:
        return parts[0]
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    time = max(part.shape[1] for part in parts)
    return np.concatenate([with_zeros(part, (len(part), time)) for part in parts])


def _host(tensor: Any) -> np.ndarray:
    """The tensor as NumPy, in float32: NumPy has no bfloat16."""
    array: np.ndarray = tensor.cpu().float().numpy()
    return array
