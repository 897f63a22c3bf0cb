"""What observing costs the demo: its step time with and without the observer, in blocks that alternate in one run.

With: every family, the journal, TensorBoard and held-out validation every 25 steps, as the demo is set. The worker
works in bursts of a second: the first steps of a block fill the first burst and are not timed, and what is left at its
end is written before the next block begins. So a block sees the observer at its steady pace, and the other kind none of
it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from toolkit import build
from toolkit.callbacks.observer import Observer
from toolkit.config import load
from toolkit.demo.grpo import GRPOConfig, TrainState, start, train_step
from toolkit.demo.run import heldout
from toolkit.demo.sampler import policy
from toolkit.demo.task import draw, training_problems
from toolkit.demo.warmup import WarmupConfig, warm_up
from toolkit.logger import Logger

BLOCKS, FIRST, TIMED = 60, 20, 30
CONFIG = GRPOConfig()


def main() -> None:
    """Print the steps of each kind, and their ratios."""
    settings = load("demo", ["sinks.console=false"])
    nothing = Observer(Logger([]), [])
    with tempfile.TemporaryDirectory() as run, build.observer(settings, Path(run), heldout(128)) as observer:
        state = start(warm_up(WarmupConfig()), CONFIG)
        for number in range(2):
            state, _ = block(state, (nothing, observer)[number], number)  # compiles everything
        steps: dict[str, list[float]] = {"without": [], "with": []}
        for number in range(2, 2 + BLOCKS):
            kind = ("without", "with")[number % 2]
            state, seconds = block(state, observer if kind == "with" else nothing, number)
            steps[kind] += seconds
    for name, of in STATISTICS.items():
        bare, observed = of(steps["without"]), of(steps["with"])
        print(f"{name:16} without {bare * 1e3:6.2f} ms  with {observed * 1e3:6.2f} ms  ratio {observed / bare:.4f}")
    print(f"steps of each kind: {len(steps['with'])}")


STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "10th percentile": lambda steps: statistics.quantiles(steps, n=10)[0],
    "median": statistics.median,
    "mean": statistics.mean,
    # The mean without the slowest steps of either kind, which are the machine's.
    "trimmed mean": lambda steps: statistics.mean(sorted(steps)[: int(len(steps) * 0.95)]),
}


def block(state: TrainState, observer: Observer, number: int) -> tuple[TrainState, list[float]]:
    """The state after a block of steps, and the seconds of each that is timed."""
    problems, greedy = training_problems(), policy(state.model)
    seconds = []
    for step in range(number * (FIRST + TIMED), (number + 1) * (FIRST + TIMED)):
        started = time.perf_counter()
        observer.validate(step, greedy)
        batch = draw(problems, CONFIG.prompts, np.random.default_rng(step))
        state, rollout = train_step(state, batch, CONFIG)
        observer.step(step, rollout, values={"loss": state.loss})
        seconds.append(time.perf_counter() - started)
    observer.logger.flush()
    return state, seconds[FIRST:]


if __name__ == "__main__":
    main()
