"""Written examples for the warm-up, by writers of four habits: good, lazy, verbose and untagged.

The mixture leaves GRPO something to learn: reasoning is known but not preferred, guesses forget the carry,
and easy sums tend to be answered without any tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from toolkit.demo.task import Problem
from toolkit.demo.tokenizer import FILLERS

Writer: TypeAlias = Callable[[Problem, np.random.Generator], str]
# How often each writer is asked; the shares add up to 1.
Habits: TypeAlias = Mapping[Writer, float]

# The longest filler leaves no room for an answer, so a few examples are cut off.
MAX_FILLERS = 30
REMEMBERED_CARRY = 0.2
EASY_BELOW = 25


def good(problem: Problem, rng: np.random.Generator) -> str:
    """The columns summed one by one, then the right answer: for 36+49 the work is `6+9=15,3+4+1=8`."""
    left, left_ones = divmod(problem.left, 10)
    right, right_ones = divmod(problem.right, 10)
    ones = left_ones + right_ones
    carry = ones // 10
    work = f"{left_ones}+{right_ones}={ones:02},{left}+{right}+{carry}={left + right + carry}"
    return _tagged(work, problem.reference)


def lazy(problem: Problem, rng: np.random.Generator) -> str:
    """A guess after a single word."""
    return _tagged(FILLERS[0], untagged(problem, rng))


def verbose(problem: Problem, rng: np.random.Generator) -> str:
    """A guess after many words that say nothing."""
    words = rng.choice(FILLERS, size=rng.integers(2, MAX_FILLERS + 1))
    return _tagged("".join(words), untagged(problem, rng))


def untagged(problem: Problem, rng: np.random.Generator) -> str:
    """A bare guess, by someone who mostly forgets the carry."""
    if rng.random() < REMEMBERED_CARRY:
        return problem.reference
    tens = problem.left // 10 + problem.right // 10
    return f"{tens}{(problem.left + problem.right) % 10}"


def _tagged(reasoning: str, answer: str) -> str:
    return f"<reasoning>{reasoning}</reasoning><answer>{answer}</answer>"


# Mostly good examples teach to add.
WORKED: Habits = MappingProxyType({good: 0.8, lazy: 0.1, verbose: 0.05, untagged: 0.05})
# Mixed ones then teach the bad habits; easy sums are answered worst.
MIXED: Habits = MappingProxyType({good: 0.2, lazy: 0.4, verbose: 0.2, untagged: 0.2})
MIXED_EASY: Habits = MappingProxyType({good: 0.1, lazy: 0.2, verbose: 0.1, untagged: 0.6})


def worked(problem: Problem, rng: np.random.Generator) -> str:
    """An example of the first part of the warm-up: mostly good."""
    return _chosen(WORKED, rng)(problem, rng)


def mixed(problem: Problem, rng: np.random.Generator) -> str:
    """An example of the second part of the warm-up: rarely good."""
    is_easy = max(problem.left, problem.right) < EASY_BELOW
    return _chosen(MIXED_EASY if is_easy else MIXED, rng)(problem, rng)


def _chosen(habits: Habits, rng: np.random.Generator) -> Writer:
    return list(habits)[rng.choice(len(habits), p=list(habits.values()))]
