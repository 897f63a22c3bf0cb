"""The same of torch as `trees` has of JAX: norms of each layer, and histograms of some entries, in one transfer.

torch is never imported here: whoever has tensors has loaded it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from math import ceil, isfinite, isnan, sqrt
from typing import Any, TypeAlias

import numpy as np

from toolkit.record import Histogram, Value
from toolkit.trees import EDGES, KINDS, MOST_ENTRIES, layer_name

Named: TypeAlias = Mapping[str, Any]
"""Tensors by name, as `module.named_parameters()` gives them; None for one without."""


def tensor_statistics(
    *, gradients: Named | None = None, parameters: Named | None = None, histograms: bool = False
) -> Callable[[], dict[str, Value]]:
    """The norms of each layer, and `histograms` on request: a function that fetches them, for another thread.

    Call it on the training thread, while the tensors are what they are. Of sharded parameters it sees its own share.
    """
    given = {"gradients": gradients, "parameters": parameters}
    found = {word: _present(given.get(kind) or {}) for kind, word in KINDS.items()}
    keys = [(word, layer_name(name.split("."))) for word, named in found.items() for name in named]
    tensors = [tensor for named in found.values() for tensor in named.values()]
    if not tensors:
        return dict
    torch: Any = sys.modules["torch"]
    with torch.no_grad():
        # Added up in single precision, also where the tensors are halves.
        norms = [torch.linalg.vector_norm(tensor, dtype=torch.float32).to(tensors[0].device) for tensor in tensors]
        samples = [_some(tensor).to(tensors[0].device) for tensor in tensors] if histograms else []
        packed = torch.cat([torch.stack(norms), *samples])
    sizes = [sample.numel() for sample in samples]
    return lambda: dict(_values(keys, packed.cpu().numpy(), sizes))


def _present(tensors: Named) -> dict[str, Any]:
    own = {name: _own(tensor.detach()) for name, tensor in tensors.items() if tensor is not None}
    return {name: tensor for name, tensor in own.items() if tensor.is_floating_point() and tensor.numel()}


def _own(tensor: Any) -> Any:
    """What this process has of a tensor that lies on several: a slice of the whole would make all of them take part."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def _some(tensor: Any) -> Any:
    """Every so many entries, by an odd number, as `trees` takes them."""
    flat = tensor.reshape(-1) if tensor.is_contiguous() else tensor.flatten()
    stride = ceil(flat.numel() / MOST_ENTRIES)
    return flat[:: stride | 1 if stride > 1 else 1].float()


def _values(keys: list[tuple[str, str]], packed: np.ndarray, sizes: list[int]) -> Iterator[tuple[str, Value]]:
    yield from _norms(keys, packed.tolist())
    entries: defaultdict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for key, sample in zip(keys, np.split(packed[len(keys) :], np.cumsum(sizes)[:-1]) if sizes else [], strict=False):
        entries[key].append(sample)
    for (word, layer), samples in entries.items():
        numbers = np.concatenate(samples)
        counts, _ = np.histogram(np.clip(numbers[np.isfinite(numbers)], EDGES[0], EDGES[-1]), EDGES)
        yield f"layers/{layer}/{word}_histogram", Histogram(counts.astype(np.float64), np.array(EDGES))


def _norms(keys: list[tuple[str, str]], norms: list[float]) -> Iterator[tuple[str, float]]:
    """The norm of each layer and of all that is one, and how many layers have none that is finite."""
    squares: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (word, layer), norm in zip(keys, norms, strict=False):
        squares[word][layer] += norm * norm
    for word, by_layer in squares.items():
        whole = {**by_layer, "total": sum(by_layer.values())}
        yield from (
            (f"layers/{layer}/{word}_norm", sqrt(square)) for layer, square in whole.items() if not isnan(square)
        )
        yield f"layers/total/{word}_nonfinite_layers", float(sum(not isfinite(square) for square in by_layer.values()))
