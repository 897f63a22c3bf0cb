"""Generic batches: the time and the memory of aggregating them and of drawing rows, by size."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from toolkit.callbacks.batch import measure_batch, sampled_rows

SIZES = (100, 1_000, 10_000)
ROUNDS = 30


def main() -> None:
    """Print the median time and the peak of Python's memory of each."""
    for size in SIZES:
        batch = {name: jnp.asarray(values) for name, values in drawn(size).items()}
        for name, work in (
            ("aggregate", lambda: measure_batch(batch, {"similarity": 1.0}).values()),  # noqa: B023  # called at once
            ("sample 3", lambda: [np.asarray(values)[sampled_rows(size, 3, 7)] for values in batch.values()]),  # noqa: B023
        ):
            work()  # compiles
            print(f"{size:6,} rows  {name:9}  {median(work) * 1e3:7.3f} ms  {peak(work) / 1024:8.0f} KiB")


def drawn(size: int) -> dict[str, np.ndarray]:
    """Returns, lengths, similarity and success of a batch of episodes."""
    random = np.random.default_rng(0)
    return {
        "episode_returns": random.normal(size=size).astype(np.float32),
        "episode_lengths": random.integers(1, 100, size).astype(np.float32),
        "similarity": random.random(size).astype(np.float32),
        "solved": random.random(size) < 0.1,
    }


def median(work: Callable[[], object]) -> float:
    """The median seconds."""
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def peak(work: Callable[[], object]) -> int:
    """The most bytes that Python and NumPy hold for it."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


if __name__ == "__main__":
    main()
