"""A program for `test_several_processes`: one of two processes under `jax.distributed`, the second of which dies."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import toolkit
from tests.callbacks.test_asks import Asking
from tests.test_measure import GROUP_SIZE, draw, rows
from toolkit.callbacks import Checkpoint, Stop
from toolkit.callbacks.observer import Observer
from toolkit.measure import statistics

OVERRIDES = ["sinks.console=false", "sinks.tensorboard=false", "metrics.text.every=1", "metrics.text.sampling_ratio=1"]
BATCH = 16
LOCAL, EMPTY, SPREAD, STATISTICS, ALONE = range(5)
"""The steps: rows of each process, none in the second, arrays over both, statistics of each, and after a death."""

_SPREAD = ("advantages", "mask", "logp", "entropy")
_FIELDS = ("rewards", "weights", "truncated", *_SPREAD)


def fields() -> dict[str, Any]:
    """The whole batch, as every process could have it."""
    drawn = {name: value for name, value in draw(BATCH).items() if name in _FIELDS}
    return {**drawn, "rewards": {name: np.nan_to_num(reward) for name, reward in drawn["rewards"].items()}}


def texts(which: slice) -> list[str]:
    """Completions, of which a group has some in common."""
    return [f"<reasoning>{row}</reasoning>\n<answer>{row // 3}</answer>" for row in range(BATCH)][which]


def local(which: slice) -> toolkit.Rollout:
    """Some rows, as arrays of the host."""
    return toolkit.Rollout(**rows(fields(), which), completions=texts(which), group_size=GROUP_SIZE)


def spread() -> toolkit.Rollout:
    """All rows over both processes; rewards and texts are whole in each, and one array has a copy in each."""
    mesh = Mesh(np.array(jax.devices()), ("data",))

    def placed(array: np.ndarray, *axes: str) -> jax.Array:
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    whole = fields()
    by_row: dict[str, Any] = {name: placed(whole[name], "data") for name in _SPREAD}
    kept = {name: whole[name] for name in ("rewards", "weights")}
    everywhere = placed(whole["truncated"])
    return toolkit.Rollout(
        **kept, **by_row, truncated=everywhere, completions=texts(slice(None)), group_size=GROUP_SIZE
    )


def steps(observer: Observer, own: slice, over_both: Callable[[], toolkit.Rollout], process: int = 0) -> None:
    """The first four steps; every step ends when its row is through, as if the training were slow."""
    given: list[Any] = [
        local(own),
        local(own) if process == 0 else None,
        over_both(),
        statistics(local(own), families=frozenset({"rewards"})),
    ]
    for step, what in enumerate(given):
        observer.step(step, what)
        assert observer.logger.flush(120)


def main(process: int, port: str, directory: str) -> None:
    """Take part, and die after the fourth step unless this is process 0."""
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
    half = slice(process * BATCH // 2, (process + 1) * BATCH // 2)

    def save(step: int, why: str) -> Path:
        everywhere = process_allgather(np.array(step)).tolist()  # hangs, unless both save
        path = Path(directory) / f"saved_by_{process}"
        path.write_text(f"after {everywhere}, as {why}")
        return path

    overrides = [*OVERRIDES, "processes.wait_s=60", "queue.close_s=250"]
    callbacks = [Asking(EMPTY, Checkpoint("it is time")), Asking(SPREAD, Stop("it is enough"))]
    observer = toolkit.observe("grpo", directory, overrides=overrides, callbacks=callbacks, save=save)
    steps(observer, half, spread, process)
    assert observer.asks.stop == "it is enough"
    if process == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    for step in (ALONE, ALONE + 1):
        observer.step(step, local(half))
    observer.close()
    os._exit(0)  # JAX's own end would wait for the dead


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
