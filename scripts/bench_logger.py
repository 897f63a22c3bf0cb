"""What logging costs the caller, and what it takes from the training, beside the loggers of others: one run.

The work of each: 50 scalars a step for 2,000 steps, two histograms of 1,000 values and 8 sample rows every 10 steps,
and 3 ms of training a step (six products of matrices, which let go of the interpreter, as a step of XLA does). Each
logger has a process of its own. In it the same steps run without logging before and after; what the logged ones take
longer is the time stolen from the training.

    scripts/bench logger                 # all, one after the other
    scripts/bench logger ours wandb      # some
    scripts/bench logger --soak          # 10 million records through our logger: memory and time of each million
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from asked import asked

STEPS, SCALARS, EVERY, ROWS = 2_000, 50, 10, 8
FAST_STEPS = {"mlflow": 500}  # 8,000 for the others, for which MLflow needs minutes
KEYS = [f"family_{i // 10}/metric_{i}" for i in range(SCALARS)]
COLUMNS = ("prompt", "completion", "reward")


class Peer(NamedTuple):
    """A logger as the loop uses it."""

    log: Callable[[int, dict[str, float], Mapping[str, np.ndarray], Sequence[tuple[str, str, float]]], None]
    close: Callable[[], None]


def ours(run: Path) -> Peer:
    """Console, journal, CSV and TensorBoard, as the configuration builds them."""
    return _ours(_logger(run))


def _logger(run: Path) -> Any:
    from toolkit import build
    from toolkit.config import load

    return build.observer(load("grpo", ["metrics.rewards=false", "sinks.csv=true"]), run).logger


def ours_tensorboard(run: Path) -> Peer:
    """Our logger with TensorBoard alone."""
    from toolkit.logger import Logger
    from toolkit.sinks.tensorboard import TensorBoardSink

    return _ours(Logger([TensorBoardSink(run)], capacity=100_000))


def _ours(logger: Any) -> Peer:
    from toolkit.record import Histogram, Table

    edges = np.linspace(-5.0, 5.0, 65)

    def log(step: int, scalars: dict[str, float], histograms: Mapping[str, np.ndarray], rows: Any) -> None:
        def with_histograms() -> dict[str, Any]:  # called on the worker thread
            binned = {key: Histogram(np.histogram(values, edges)[0], edges) for key, values in histograms.items()}
            return scalars | binned | {"samples": Table(COLUMNS, rows)}

        logger.log(step, with_histograms if histograms else scalars)

    return Peer(log, logger.close)


def summary_writer(run: Path) -> Peer:
    """PyTorch's SummaryWriter."""
    from torch.utils.tensorboard import SummaryWriter

    return _summary_writer(SummaryWriter(str(run)))


def tensorboard_x(run: Path) -> Peer:
    """The SummaryWriter of tensorboardX."""
    from tensorboardX import SummaryWriter

    return _summary_writer(SummaryWriter(str(run)))


def _summary_writer(writer: Any) -> Peer:
    def log(step: int, scalars: dict[str, float], histograms: Mapping[str, np.ndarray], rows: Any) -> None:
        for key, scalar in scalars.items():
            writer.add_scalar(key, scalar, step)
        for key, values in histograms.items():
            writer.add_histogram(key, values, step)
        if rows:
            writer.add_text("samples", "\n".join(" | ".join(map(str, row)) for row in rows), step)

    return Peer(log, writer.close)


def wandb(run: Path) -> Peer:
    """W&B, offline."""
    import wandb

    live = wandb.init(mode="offline", dir=str(run), project="bench", settings=wandb.Settings(silent=True))

    def log(step: int, scalars: dict[str, float], histograms: Mapping[str, np.ndarray], rows: Any) -> None:
        values: dict[str, Any] = dict(scalars)
        values |= {key: wandb.Histogram(value) for key, value in histograms.items()}
        if rows:
            values["samples"] = wandb.Table(list(COLUMNS), [list(row) for row in rows])
        live.log(values, step=step)

    return Peer(log, live.finish)


def trackio(run: Path) -> Peer:
    """trackio, with its local store."""
    os.environ["TRACKIO_DIR"] = str(run)
    import trackio

    trackio.init(project="bench", auto_log_gpu=False)

    def log(step: int, scalars: dict[str, float], histograms: Mapping[str, np.ndarray], rows: Any) -> None:
        values: dict[str, Any] = dict(scalars)
        values |= {key: trackio.Histogram(value) for key, value in histograms.items()}
        if rows:
            import pandas as pd

            values["samples"] = trackio.Table(dataframe=pd.DataFrame(rows, columns=list(COLUMNS)))
        trackio.log(values, step=step)

    return Peer(log, trackio.finish)


def mlflow(run: Path) -> Peer:
    """MLflow with SQLite, asynchronous; histograms have no place in it."""
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{run / 'mlflow.db'}")
    mlflow.start_run(experiment_id=mlflow.create_experiment("bench", (run / "artifacts").as_uri()))

    def log(step: int, scalars: dict[str, float], histograms: Mapping[str, np.ndarray], rows: Any) -> None:
        mlflow.log_metrics(scalars, step=step, synchronous=False)
        if rows:
            mlflow.log_table(
                {name: list(column) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)},
                "samples.json",
            )

    def close() -> None:
        mlflow.flush_async_logging()
        mlflow.end_run()

    return Peer(log, close)


PEERS: dict[str, Callable[[Path], Peer]] = {
    "ours": ours,
    "ours-tensorboard": ours_tensorboard,
    "torch": summary_writer,
    "tensorboardx": tensorboard_x,
    "trackio": trackio,
    "wandb": wandb,
    "mlflow": mlflow,
}


def main() -> None:
    """Run what was asked for, each logger in a process of its own."""
    match sys.argv[1:]:
        case ["--one", name, "train"]:
            print(json.dumps(trained(name)))
        case ["--one", name, "fast"]:
            print(json.dumps(flat_out(name)))
        case ["--soak", *count]:
            soak(int(count[0]) if count else 10)
        case names:
            table(asked(names, PEERS))


def table(names: Sequence[str]) -> None:
    """A row a logger."""
    print("| logger | caller p50 us | p99 us | stolen s | durable after s | MB | RSS MB | scalars/s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        trained, fast = _measured(name, "train"), _measured(name, "fast")
        if trained is None or fast is None:
            print(f"| {name} | not installed here | | | | | | |", flush=True)
            continue
        cells = [f"{trained[key]:.{digits}f}" for key, digits in COLUMNS_SHOWN.items()]
        print(f"| {name} | {' | '.join(cells)} | {fast['scalars_per_s']:,.0f} |", flush=True)


COLUMNS_SHOWN = {"p50_us": 1, "p99_us": 0, "stolen_s": 2, "durable_s": 2, "mb": 1, "rss_mb": 0}


def _measured(name: str, kind: str) -> dict[str, float] | None:
    command = [sys.executable, __file__, "--one", name, kind]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | _ENVIRONMENT)
    if "ModuleNotFoundError" in ended.stderr and ended.returncode:
        return None
    if ended.returncode:
        raise SystemExit(f"{name}: {ended.stderr}")
    measured: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return measured


# One thread of linear algebra, so that the other core is the loggers'.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}


def trained(name: str) -> dict[str, float]:
    """The loop with training: the times of the calls, what the loop lost, and how long the rest takes."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        train = training(3e-3)
        peer = PEERS[name](run)
        rows = sample_rows()
        loop(train, None, rows, STEPS // 4)
        bare = loop(train, None, rows, STEPS // 2)[0]
        logged, calls = loop(train, peer, rows, STEPS)
        began = time.perf_counter()
        peer.close()
        durable = time.perf_counter() - began
        bare += loop(train, None, rows, STEPS // 2)[0]
        size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    micro = np.array(calls) * 1e6
    return {
        "p50_us": float(np.median(micro)),
        "p99_us": float(np.percentile(micro, 99)),
        "stolen_s": logged - bare,
        "durable_s": durable,
        "mb": size / 1e6,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def flat_out(name: str) -> dict[str, float]:
    """Scalars a second from the first call until everything is on disk, without training."""
    steps = FAST_STEPS.get(name, 8_000)
    with tempfile.TemporaryDirectory() as folder:
        peer = PEERS[name](Path(folder))
        rows = [{key: step + i for i, key in enumerate(KEYS)} for step in map(float, range(steps))]
        began = time.perf_counter()
        for step, scalars in enumerate(rows):
            peer.log(step, scalars, {}, ())
        peer.close()
        seconds = time.perf_counter() - began
    return {"scalars_per_s": steps * SCALARS / seconds}


def loop(train: Callable[[], None], peer: Peer | None, rows: Any, steps: int) -> tuple[float, list[float]]:
    """Seconds of the whole loop, and of each call of the logger."""
    numbers = np.random.default_rng(0)
    calls = []
    began = time.perf_counter()
    for step in range(steps):
        train()
        scalars = dict(zip(KEYS, numbers.random(SCALARS).tolist(), strict=True))
        full = step % EVERY == 0
        histograms = {f"histogram/{i}": numbers.normal(size=1000) for i in range(2)} if full else {}
        if peer is not None:
            called = time.perf_counter()
            peer.log(step, scalars, histograms, rows if full else ())
            calls.append(time.perf_counter() - called)
    return time.perf_counter() - began, calls


def training(seconds: float) -> Callable[[], None]:
    """A step of about so many seconds."""
    matrix = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    began = time.perf_counter()
    for _ in range(200):
        matrix @ matrix
    repeats = max(1, round(seconds / 6 / ((time.perf_counter() - began) / 200)))

    def train() -> None:
        for _ in range(6 * repeats):
            matrix @ matrix

    return train


def sample_rows() -> list[tuple[str, str, float]]:
    """Eight completions of 1,000 characters."""
    return [(f"What is {i} + {i}?", "so it goes " * 90 + str(i), float(i)) for i in range(ROWS)]


def soak(millions: int) -> None:
    """Records of three scalars, as fast as they are written: memory and time must not grow."""
    with tempfile.TemporaryDirectory() as folder, _logger(Path(folder)) as logger:
        print("| million | us a record | RSS MB |\n|---|---|---|")
        marks = [time.perf_counter()]
        for million in range(millions):
            for first in range(0, 1_000_000, 5_000):
                for step in range(first, first + 5_000):
                    logger.log(million * 1_000_000 + step, {"loss": 0.5, "reward": float(step), "kl": 1e-3})
                logger.flush(600)
            marks.append(time.perf_counter())
            print(f"| {million + 1} | {marks[-1] - marks[-2]:.2f} | {_rss_mb():.0f} |", flush=True)
        assert logger.health.dropped == logger.health.sink_failures == 0
    seconds = [after - before for before, after in pairwise(marks)]
    print(f"\nthe last million took {seconds[-1] / seconds[0]:.2f} times the first")


def _rss_mb() -> float:
    return float(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
