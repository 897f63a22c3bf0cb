"""What makes a number worth believing: a standard error clustered by prompt, an interval that behaves at 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over prompts, its standard error, its 95 % interval, and the number of prompts."""

    mean: float
    se: float
    low: float
    high: float
    n: int


def estimate(scores: Sequence[float], prompts: Sequence[str]) -> Estimate:
    """The mean score and how sure it is, when scores of one prompt are not independent.

    The standard error is clustered by prompt (Miller 2024, Adding Error Bars to Evals, arXiv 2411.00640, section 2.2).
    The interval is Wilson's for scores in 0..1, at the number of independent scores that the error stands for, so
    that it neither leaves 0..1 nor shrinks to nothing at its ends; for other scores it is the normal one.
    """
    values = np.asarray(scores, np.float64)
    mean = float(values.mean())
    _, cluster = np.unique(np.asarray(prompts), return_inverse=True)
    sums = np.bincount(cluster, values - mean)
    n = len(sums)
    se = float(np.sqrt(np.square(sums).sum()) / len(values)) * sqrt(n / (n - 1)) if n > 1 else float("nan")
    bounded = bool(values.min() >= 0 and values.max() <= 1)
    low, high = wilson(mean, _independent(mean, se, n)) if bounded else (mean - _Z95 * se, mean + _Z95 * se)
    return Estimate(mean, se, low, high, n)


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95 % score interval of a share observed over n independent trials (Wilson 1927, JASA 22, p. 209)."""
    z2 = _Z95 * _Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _independent(mean: float, se: float, prompts: int) -> float:
    """How many independent 0-or-1 scores would have this standard error; the prompts, where it says nothing."""
    variance = mean * (1 - mean)
    return variance / (se * se) if se > 0 and variance > 0 else float(prompts)
