"""The mean of a score over prompts, its standard error and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from statistics import fmean

import numpy as np

from toolkit.validation.statistics.interval import FloatArray, share_interval, student_interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `n` prompts, its standard error and its 95 % interval; NaN where there is no value.

    `left_out` counts the prompts that had no value, or too few samples for this one.
    """

    mean: float
    se: float
    low: float
    high: float
    n: int
    left_out: int = 0


def estimate(scores: Sequence[float], prompts: Sequence[str]) -> Estimate:
    """The mean score and how sure it is, when the scores of one prompt are not independent. See `prompt_means`."""
    means = prompt_means(scores, prompts)
    return mean_estimate(list(means.values()), left_out=len(set(prompts)) - len(means))


def prompt_means(scores: Sequence[float], prompts: Sequence[str]) -> dict[str, float]:
    """The mean score of each prompt: a prompt counts once, however many samples it has.

    Scores that are not finite (a scorer that failed) are left out, and prompts that have no other.
    """
    return {prompt: fmean(found) for prompt, found in by_prompt(scores, prompts).items()}


def by_prompt(scores: Sequence[float], prompts: Sequence[str]) -> dict[str, list[float]]:
    """The finite scores of each prompt, in order."""
    found: dict[str, list[float]] = {}
    for score, prompt in zip(scores, prompts, strict=True):
        if isfinite(score):
            found.setdefault(prompt, []).append(float(score))
    return found


def mean_estimate(values: Sequence[float], left_out: int = 0) -> Estimate:
    """The mean of one value a prompt.

    Values of different prompts are independent, so the plain standard error of their mean is the one clustered by
    prompt (Miller 2024, Adding Error Bars to Evals, arXiv 2411.00640, section 2.2), with n - 1 for n. The interval is
    `share_interval` where all values are in 0..1, and Student's elsewhere.
    """
    if not values:
        return Estimate(nan, nan, nan, nan, 0, left_out)
    array, n = np.asarray(values, np.float64), len(values)
    mean, se = array.mean(), standard_error(array)
    if array.min() >= 0 and array.max() <= 1:
        low, high = share_interval(mean, np.square(array).mean(), n)
    else:
        low, high = student_interval(mean, np.asarray(se), n)
    return Estimate(float(mean), se, float(low), float(high), n, left_out)


def standard_error(values: FloatArray) -> float:
    """That of the mean of independent values; NaN for a single one."""
    return float(values.std(ddof=1)) / sqrt(len(values)) if len(values) > 1 else nan


def common_prompts(series: Sequence[Mapping[str, float]]) -> list[str]:
    """The prompts that all of them have, in the order of the first."""
    first, *others = series
    return [prompt for prompt in first if all(prompt in other for other in others)]
