"""What observing costs the demo: its steps with and without the observer, in blocks that alternate in one run.

With: every family, the journal, TensorBoard and samples, as the demo is set; held-out validation is work of its own and
stays out (`scripts/bench background`). The worker works in bursts of a second: the first steps of a block fill the
first burst and are not timed, the others are two bursts at least, and what is left at its end is written before the
next block begins.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from alternation import KINDS, kind_of, report

from toolkit import build
from toolkit.callbacks.observer import Observer
from toolkit.config import load
from toolkit.demo.grpo import GRPOConfig, TrainState, start, train_step
from toolkit.demo.task import draw, training_problems
from toolkit.demo.warmup import WarmupConfig, warm_up
from toolkit.logger import Logger

ROUNDS, FIRST, TIMED = 30, 6, 12
CONFIG = GRPOConfig()


def main() -> None:
    """Print the steps of each kind, and their ratios."""
    settings = load("demo", ["sinks.console=false", "alerts=false"])
    nothing = Observer(Logger([]), [])
    with tempfile.TemporaryDirectory() as run, build.observer(settings, Path(run)) as observer:
        state = start(warm_up(WarmupConfig()), CONFIG)
        blocks: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
        for number in range((1 + ROUNDS) * len(KINDS)):
            kind = kind_of(number)
            state, seconds = block(state, observer if kind == "with" else nothing, number)
            if number >= len(KINDS):  # everything is compiled in the first round
                blocks[kind].append(seconds)
    print(f"demo: {ROUNDS} rounds, {TIMED} steps a block")
    report("wall time", blocks)


def block(state: TrainState, observer: Observer, number: int) -> tuple[TrainState, list[float]]:
    """The state after a block of steps, and the seconds of each that is timed."""
    problems = training_problems()
    seconds = []
    for step in range(number * (FIRST + TIMED), (number + 1) * (FIRST + TIMED)):
        started = time.perf_counter()
        batch = draw(problems, CONFIG.prompts, np.random.default_rng(step))
        state, rollout = train_step(state, batch, CONFIG)
        observer.step(step, rollout, values={"loss": state.loss})
        seconds.append(time.perf_counter() - started)
    observer.logger.flush()
    return state, seconds[FIRST:]


if __name__ == "__main__":
    main()
