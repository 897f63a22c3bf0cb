"""Histograms in the form that backends draw."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from toolkit.record import Histogram

MOST_BINS = 512
"""What W&B and trackio take at most."""


def drawn(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """The filled counts and their edges, neighbours merged if they are too many."""
    counts, edges = filled(histogram)
    merged = -(-counts.size // MOST_BINS)
    return np.add.reduceat(counts, np.arange(0, counts.size, merged)), np.append(edges[:-1:merged], edges[-1])


def filled(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges, all finite, from the first filled bin to the last: empty ones would stretch a chart.

    One empty bin where none is filled.
    """
    counts, edges = np.asarray(histogram.counts), _finite(np.asarray(histogram.edges, float).tobytes())
    used = np.flatnonzero(counts)
    first, last = (used[0], used[-1]) if used.size else (0, 0)
    return counts[first : last + 1], edges[first : last + 2]


@lru_cache(256)
def _finite(edges: bytes) -> np.ndarray:
    """The edges, an infinite outermost one as far out as the neighbouring bin is wide; most are those of before."""
    limits = np.frombuffer(edges).copy()
    inner = limits[np.isfinite(limits)]
    inner = inner if inner.size else np.zeros(1)
    widths = np.diff(inner) if inner.size > 1 else np.ones(1)
    limits[0] = max(limits[0], inner[0] - widths[0])
    limits[-1] = min(limits[-1], inner[-1] + widths[-1])
    limits.flags.writeable = False  # it is shared
    return limits
