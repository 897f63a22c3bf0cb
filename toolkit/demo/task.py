"""The task: sums of two numbers below 50, split into problems to train on and held-out problems."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LIMIT = 50
HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Problem:
    """One sum of two numbers below 100."""

    left: int
    right: int

    @property
    def prompt(self) -> str:
        """The question, for example `36+49=`."""
        return f"{self.left:02}+{self.right:02}="

    @property
    def reference(self) -> str:
        """The right answer with at least two digits, for example `85`."""
        return f"{self.left + self.right:02}"

    @property
    def held_out(self) -> bool:
        """Whether the problem is kept from training, decided by a hash so that no list has to be stored.

        The hash is of the unordered pair: `36+49` and `49+36` always fall on the same side.
        """
        pair = f"{min(self.left, self.right)}+{max(self.left, self.right)}"
        digest = hashlib.sha256(pair.encode()).digest()
        return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def problems(limit: int = LIMIT) -> list[Problem]:
    """Every sum of two numbers below `limit`, which is at most 50 so that answers keep two digits."""
    if not 0 < limit <= LIMIT:
        raise ValueError(f"limit must be within 1 and {LIMIT}, not {limit}")
    return [Problem(left, right) for left in range(limit) for right in range(limit)]


def training_problems(limit: int = LIMIT) -> list[Problem]:
    """The problems a policy may learn from, about four fifths of all."""
    return [problem for problem in problems(limit) if not problem.held_out]


def heldout_problems(count: int, limit: int = LIMIT, seed: int = 0) -> list[Problem]:
    """`count` different problems that occur in no training, in neither order; fewer where there are fewer."""
    candidates = [problem for problem in problems(limit) if problem.held_out]
    return draw(candidates, min(count, len(candidates)), np.random.default_rng(seed))


def draw(candidates: Sequence[Problem], count: int, rng: np.random.Generator) -> list[Problem]:
    """`count` different problems out of `candidates`, at random."""
    return [candidates[index] for index in rng.choice(len(candidates), size=count, replace=False)]
