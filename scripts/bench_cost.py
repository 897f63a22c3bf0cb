"""What observing costs the demo: its step time with and without the observer, in blocks that alternate in one run.

With: every family, the journal, TensorBoard and a held-out validation in each block, as the demo is set. A block
starts when the worker has written all of the block before, so that neither kind pays for the other.
"""

from __future__ import annotations

import statistics
import tempfile
import time
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

BLOCKS, STEPS = 24, 25
CONFIG = GRPOConfig()


def main() -> None:
    """Print the median step of each kind, and their ratio."""
    settings = load("demo", ["sinks.console=false"])
    nothing = Observer(Logger([]), [])
    with tempfile.TemporaryDirectory() as run, build.observer(settings, Path(run), heldout(200)) as observer:
        state = start(warm_up(WarmupConfig()), CONFIG)
        state, *_ = block(state, observer, 0)  # compiles everything
        state, *_ = block(state, nothing, 1)
        seconds: dict[str, list[float]] = {"with": [], "without": []}
        for number in range(2, 2 + BLOCKS):
            kind = "with" if number % 2 else "without"
            state, steps, whole = block(state, observer if kind == "with" else nothing, number)
            seconds[kind].append(whole / STEPS)
            print(f"{kind:8} median step {statistics.median(steps) * 1e3:6.1f} ms, mean {whole / STEPS * 1e3:6.1f} ms")
    observed, bare = (statistics.median(seconds[kind]) for kind in ("with", "without"))
    print(f"step without {bare * 1e3:.1f} ms, with {observed * 1e3:.1f} ms: ratio {observed / bare:.4f}")
    print(f"observer on the training thread: {observer.overhead_fraction:.2%} of the time")


def block(state: TrainState, observer: Observer, number: int) -> tuple[TrainState, list[float], float]:
    """The state after a block of steps, the seconds of each step, and those of the whole block."""
    problems = training_problems()
    steps = []
    first = time.perf_counter()
    for step in range(number * STEPS, (number + 1) * STEPS):
        started = time.perf_counter()
        observer.validate(step, policy(state.model))
        batch = draw(problems, CONFIG.prompts, np.random.default_rng(step))
        state, rollout = train_step(state, batch, CONFIG)
        observer.step(step, rollout, values={"loss": state.loss})
        steps.append(time.perf_counter() - started)
    whole = time.perf_counter() - first
    observer.logger.flush()
    return state, steps, whole


if __name__ == "__main__":
    main()
