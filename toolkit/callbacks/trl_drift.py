"""How far the policy is from where the training began, on texts that stay the same: a KL that needs no second model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.callbacks.trl_rollout import references, text
from toolkit.measure import measure
from toolkit.record import Value
from toolkit.rollout import Rollout
from toolkit.settings.metrics import DriftFamily
from toolkit.validation.heldout import HeldOut

_KEYS = "policy/kl_init"
_TOKENS_AT_ONCE = 512
"""What one forward pass may hold, padding included: less than a micro-batch that is trained on, with its gradients."""


class Drift:
    """The logprobs of some held-out texts under the policy now, beside those under the policy before the first step.

    | key | what |
    |---|---|
    | `policy/kl_init_k1`, `_k2`, `_k3`, `_clamped_fraction` | between the policy and the initial one, on these texts |

    The texts are the first rows of `data`, which is held out from training as the trainer's `eval_dataset` is, each
    with its reference where it has one. Of the initial policy only its logprobs are kept, in `initial_policy.npz` of
    the run's directory, where a resumed run finds them.
    """

    def __init__(self, trainer: Any, data: Any, settings: DriftFamily, directory: Path) -> None:
        self._model = trainer.model
        self._settings = settings
        self._kept = directory / "initial_policy.npz"
        self._ids = [ids[: settings.max_tokens] for ids in _tokenized(trainer, data, settings.texts)]
        self._batches = _batches(self._ids)
        self._initial: list[np.ndarray] = []

    def start(self, step: int) -> None:
        """Take the initial policy's logprobs: now at step 0, and after a resume those that were kept, if they are."""
        if not self._ids:
            return
        self._initial = self._read() if step else []
        if not self._initial:
            self._initial = [logp.cpu().numpy() for logp in self._logprobs()]
            np.savez(self._kept, ids=_padded(self._ids), logp=_padded(self._initial))

    def values(self, step: int) -> Callable[[], Mapping[str, Value]] | None:
        """What another thread can call for the metrics of this step, when they are due."""
        if not (self._initial and self._settings.due(step)):
            return None
        rows, initial = self._logprobs(), self._initial
        return lambda: _divergence([logp.cpu().numpy() for logp in rows], initial)

    def _logprobs(self) -> list[torch.Tensor]:
        """The logprob of each token of each text but the first."""
        with torch.no_grad(), _evaluating(self._model):
            return [row for texts in self._batches for row in self._logprobs_of(texts)]

    def _logprobs_of(self, texts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """The same of texts that go through the model together, padded behind, where a causal model does not look."""
        ids, mask = (torch.tensor(_padded(rows), device=self._model.device) for rows in (texts, _masks(texts)))
        logits = self._model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
        lengths = map(len, texts)
        return [_logp(at[: end - 1], row[1:end]) for at, row, end in zip(logits, ids, lengths, strict=True)]

    def _read(self) -> list[np.ndarray]:
        """The kept logprobs; none where there are none, or of other texts."""
        if not self._kept.exists():
            return []
        with np.load(self._kept) as kept:
            same = np.array_equal(kept["ids"], _padded(self._ids))
            return [row[: len(ids) - 1] for row, ids in zip(kept["logp"], self._ids, strict=True)] if same else []


def _divergence(logp: Sequence[np.ndarray], initial: Sequence[np.ndarray]) -> dict[str, Value]:
    rollout = Rollout(mask=_padded(_masks(logp)), logp=_padded(logp), init_logp=_padded(initial))
    values = measure(rollout, families=frozenset({"policy"})).values()
    return {key: value for key, value in values.items() if key.startswith(_KEYS)}


def _logp(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return -torch.nn.functional.cross_entropy(logits.float(), ids, reduction="none")


def _batches(rows: Sequence[list[int]]) -> list[list[list[int]]]:
    """The texts in order, as many together as one forward pass may hold."""
    batches: list[list[list[int]]] = []
    for ids in rows:
        together = [*batches[-1], ids] if batches else [ids]
        if batches and len(together) * max(map(len, together)) <= _TOKENS_AT_ONCE:
            batches[-1] = together
        else:
            batches.append([ids])
    return batches


def _masks(rows: Sequence[Any]) -> list[np.ndarray]:
    return [np.ones(len(row), bool) for row in rows]


def _padded(rows: Sequence[Any]) -> np.ndarray:
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row))) for row in rows])


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout, and each module as it was afterwards: the host tells training by the mode of its model."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def problems(heldout: Sequence[HeldOut]) -> list[dict[str, Any]]:
    """The first of the data sets that are validated on, as rows of a trainer's."""
    return [
        {"prompt": prompt, "reference": reference}
        for data in heldout[:1]
        for prompt, reference in zip(data.chats or data.prompts, data.references, strict=True)
    ]


def _tokenized(trainer: Any, data: Any, count: int) -> list[list[int]]:
    """The first texts of the data, as tokens; those of one token say nothing."""
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    texts = [_text(tokenizer, row) for row in islice(_rows(data), count)]
    return [ids for ids in (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts) if len(ids) > 1]


def _rows(data: Any) -> Iterable[Mapping[str, Any]]:
    """The rows of a data set; of several by name those of the first."""
    chosen = next(iter(data.values()), None) if isinstance(data, Mapping) else data
    return () if chosen is None else chosen


def _text(tokenizer: Any, row: Mapping[str, Any]) -> str:
    prompt = row["prompt"]
    if not isinstance(prompt, str) and tokenizer.chat_template:
        prompt = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    return " ".join([text(prompt), *filter(None, references([row]) or ())])
