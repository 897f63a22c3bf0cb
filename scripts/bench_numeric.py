"""The numeric families: their time against NumPy's for the same statistics, and what they cost the training thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy_reference import reference

from toolkit.callbacks.metrics import MetricsCallback
from toolkit.callbacks.observer import Observer
from toolkit.logger import Logger
from toolkit.measure import measure
from toolkit.record import Histogram
from toolkit.rollout import Rollout
from toolkit.settings.metrics import Metrics
from toolkit.sinks.memory import MemorySink

SIZES = ((256, 1024), (10_000, 512))
ROUNDS, STEPS = 9, 60


def main() -> None:
    """Print the ratio to NumPy and the training thread's time for each size."""
    for batch, length in SIZES:
        fields = drawn(batch, length)
        rollout = Rollout(**jax.tree.map(on_device, fields))
        check(measure(rollout).values(), reference(fields))
        ours, numpy = interleaved(lambda: measure(rollout).values(), lambda: reference(fields))  # noqa: B023  # at once
        print(
            f"{batch:,} x {length}: measure {ours * 1e3:.2f} ms, NumPy {numpy * 1e3:.2f} ms: {numpy / ours:.2f} times"
        )
        for kind, taken in (
            ("on warm caches", on_warm_caches(rollout)),
            ("after the worker has worked", on_training_thread(rollout, lambda: None)),
            ("after that and a step of XLA", on_training_thread(rollout, busy())),
        ):
            print(f"  of the training thread, {kind}: {taken * 1e6:.0f} us a step (median)")


def drawn(batch: int, length: int) -> dict[str, Any]:
    """Every field over arrays, with completions of 1 to `length` tokens in groups of 8."""
    random = np.random.default_rng(0)
    mask = np.arange(length) < random.integers(1, length + 1, batch)[:, None]
    logp = -random.exponential(0.5, mask.shape).astype(np.float32)
    near = {
        name: logp + random.normal(0, 0.1, mask.shape).astype(np.float32)
        for name in ("old_logp", "ref_logp", "sampler_logp")
    }
    return {
        "rewards": {
            "correct": random.choice([0.0, 1.0], batch).astype(np.float32),
            "format": random.choice([0.0, 0.5, 1.0], batch).astype(np.float32),
        },
        "advantages": random.normal(size=batch).astype(np.float32),
        "group_size": 8,
        "mask": mask,
        "truncated": random.random(batch) < 0.1,
        "entropy": random.exponential(0.5, mask.shape).astype(np.float32),
        "logp": logp,
        **near,
    }  # fmt: skip


def on_device(leaf: Any) -> Any:
    """The array as one of JAX."""
    return jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf


def check(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Both must say the same, or the comparison means nothing; quantiles of tokens are exact to a bin's width here."""
    if found.keys() != expected.keys():
        raise SystemExit(f"not the same metrics: {sorted(found.keys() ^ expected.keys())}")
    for key, value in found.items():
        rtol, number = (0.05 if "entropy_p" in key else 2e-3), value.counts if isinstance(value, Histogram) else value
        np.testing.assert_allclose(
            number, expected[key], rtol=rtol, atol=3 if "histogram" in key else 1e-4, err_msg=key
        )


def interleaved(*contenders: Callable[[], Any]) -> list[float]:
    """The median seconds of each, taken in turn."""
    seconds: list[list[float]] = [[] for _ in contenders]
    for _ in range(ROUNDS):
        for taken, contender in zip(seconds, contenders, strict=True):
            started = time.perf_counter()
            contender()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def busy() -> Callable[[], None]:
    """A step of XLA that leaves the caches cold, as training does."""
    weights, step = [jnp.ones((700, 700))], jax.jit(lambda x: jnp.tanh(x @ x @ x) / 700)

    def run() -> None:
        weights[0] = step(weights[0])
        weights[0].block_until_ready()

    return run


def on_warm_caches(rollout: Rollout) -> float:
    """The median seconds that `observer.step` takes when it is called again and again and the worker rests."""
    with Observer(Logger([MemorySink()], burst_s=60.0), [MetricsCallback(Metrics())]) as observer:
        for step in range(5):
            observer.step(step, rollout)
        observer.logger.flush()
        taken = []
        for step in range(5, 25):
            started = time.perf_counter()
            observer.step(step, rollout)
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def on_training_thread(rollout: Rollout, between: Callable[[], None] = lambda: None) -> float:
    """The median seconds that `observer.step` takes of the thread that calls it."""
    with Observer(Logger([MemorySink()]), [MetricsCallback(Metrics())]) as observer:
        taken = []
        for step in range(STEPS + 5):
            between()
            started = time.perf_counter()
            observer.step(step, rollout)
            taken.append(time.perf_counter() - started)
            observer.logger.flush()
    return statistics.median(taken[5:])


if __name__ == "__main__":
    main()
