"""Steps with and without the observer that alternate in one run, each block of them compared with its neighbours.

What slows the machine down for a while meets all kinds alike. A third kind, without the observer again, shows what is
left of the machine in the ratios: where its interval is wide, so is what the others can say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

KINDS = ("without", "with", "without again")


def kind_of(block: int) -> str:
    """The kind of this block: all of a round, in an order that changes from round to round."""
    number, place = divmod(block, len(KINDS))
    return str(np.random.default_rng(number).permutation(KINDS)[place])


def report(clock: str, blocks: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Print the steps of each kind, and their ratios to those without with 95 % intervals over the rounds.

    `blocks` has the seconds of each step, block by block, as many blocks of each kind.
    """
    means = {kind: np.array([np.mean(block) for block in blocks[kind]]) for kind in KINDS}
    bare = np.concatenate([np.asarray(block) for block in blocks["without"]]) * 1e3
    print(f"{clock}: a step without takes {np.mean(bare):.2f} ms in the mean, {np.median(bare):.2f} in the median")
    for kind, others in (("with", ("without", "without again")), ("without again", ("without",))):
        print(f"  {kind}: {_ratio(means, kind, others)}")


def _ratio(found: Mapping[str, np.ndarray], kind: str, others: Sequence[str]) -> str:
    """The geometric mean of the ratios to neighbours, without the tenth on either side that the machine spoiled."""
    logs = np.log(found[kind]) - np.mean([np.log(found[other]) for other in others], axis=0)
    rng = np.random.default_rng(0)
    drawn = [_middle(rng.choice(logs, len(logs))) for _ in range(2000)]
    low, high = np.exp(np.quantile(drawn, [0.025, 0.975]))
    return f"ratio {np.exp(_middle(logs)):.4f} ({low:.4f} to {high:.4f})"


def _middle(logs: np.ndarray) -> float:
    cut = len(logs) // 10
    return float(np.mean(np.sort(logs)[cut : len(logs) - cut]))
