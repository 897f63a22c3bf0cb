"""`toolkit export`: every view rebuilt from the journals of a run."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
import trackio
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trackio.sqlite_storage import SQLiteStorage

from tests.sinks.wandb_reader import inspected
from toolkit.errors import ConfigError, SinkError
from toolkit.export import Kind, export, target
from toolkit.record import Artifact, Record, Table
from toolkit.sinks.jsonl import JsonlSink

FILES = [Kind.TENSORBOARD, Kind.CSV, Kind.PARQUET]
EXPORT = [sys.executable, "-c", "from toolkit.cli import app; app()", "export"]


def session(run: Path, steps: Iterable[int], heldout: Iterable[int]) -> None:
    """One session that trains, gets held-out results and keeps samples."""
    sink = JsonlSink(run / "metrics.jsonl", {"samples": run / "samples" / "completions.jsonl"})
    train = [Record("train", step, step, 1e9 + step, {"loss": step / 4}) for step in steps]
    results = [Record("heldout", 99, step, 1e9 + step, {"heldout/accuracy": step / 4}) for step in heldout]
    table = Table(("completion", "reward"), [("<answer>2</answer>", 1.0)])
    samples = [Record("samples", step, step, 1e9 + step, {"samples/completions": table}) for step in steps]
    sink.write([*train, *results, *samples])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that went to step 9, was resumed at 6 and ended at 7; a held-out result came late."""
    session(tmp_path / "run", range(10), [4, 8, 2])
    session(tmp_path / "run", range(6, 8), [6])
    return tmp_path / "run"


def test_tensorboard_is_rebuilt(run: Path, tmp_path: Path) -> None:
    """Its reader finds the clean history, with late results in their places and the samples."""
    assert export(run, target(run, Kind.TENSORBOARD, tmp_path / "out")) == 8 + 3 + 8
    read = EventAccumulator(str(tmp_path / "out")).Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [(step, step / 4) for step in range(8)]
    assert [event.step for event in read.Scalars("heldout/accuracy")] == [2, 4, 6]
    assert [event.step for event in read.Tensors("samples/completions")] == list(range(8))
    assert "custom_scalars__config__" in read.Tags()["tensors"]


@pytest.mark.parametrize("kind", [Kind.CSV, Kind.PARQUET])
def test_tables_are_rebuilt(run: Path, kind: Kind) -> None:
    """CSV and Parquet have the same rows, beside the journal where no place is named."""
    export(run, target(run, kind))
    read = {Kind.CSV: pd.read_csv, Kind.PARQUET: pd.read_parquet}[kind]
    metrics = read(run / kind.value / f"metrics.{kind.value}")
    assert metrics[metrics["key"] == "loss"]["policy_step"].tolist() == list(range(8))
    assert metrics[metrics["key"] == "heldout/accuracy"]["value"].tolist() == [0.5, 1.0, 1.5]
    samples = read(run / kind.value / f"samples.completions.{kind.value}")
    assert samples["step"].tolist() == list(range(8))
    assert set(samples["completion"]) == {"<answer>2</answer>"}


@pytest.mark.parametrize("kind", FILES)
def test_what_is_there_is_only_set_aside_by_force(run: Path, tmp_path: Path, kind: Kind) -> None:
    """A second export is refused, and by force it keeps the files of the first."""
    out = tmp_path / "out"
    export(run, target(run, kind, out))
    (first,) = [path.read_bytes() for path in out.iterdir() if "tfevents" in path.name or "metrics" in path.name]
    with pytest.raises(ConfigError, match="is there already: give another --out, or --force"):
        export(run, target(run, kind, out))
    export(run, target(run, kind, out), force=True)
    assert first in [path.read_bytes() for path in out.iterdir() if "superseded" in path.name]


def exported(run: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as libraries keep what they learned of a first run; W&B is offline."""
    environment = os.environ | {"WANDB_MODE": "offline"}
    command = [*EXPORT, str(run), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_wandb_is_rebuilt_as_a_new_run(run: Path) -> None:
    """The new W&B run has the clean history; a second export is refused, and by force it makes another run."""
    lost = Artifact("model", run / "deleted", "model", "00")
    JsonlSink(run / "metrics.jsonl").write([Record("artifacts", 7, 7, 1e9 + 7, {"artifacts/model": lost})])
    (run / "config.yaml").write_text("sinks: {wandb: {project: mine}}")
    first = exported(run, "--to", "wandb")
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"20 rows of {run} are in W&B's runs in {run / 'wandb'}\n"
    assert "artifacts/model of step 7 is left out" in first.stderr
    rows = [row["item"] for row in inspected(run, "history")]
    losses = [(row["train/step"], row["loss"]) for row in rows if "loss" in row]
    assert losses == [(step, step / 4) for step in range(8)]
    assert [row["heldout/step"] for row in rows if "heldout/accuracy" in row] == [2, 4, 6]
    assert sum("samples/completions.path" in row for row in rows) == 8
    (about,) = inspected(run, "run")
    assert (about["project"], about["display_name"], about["run_group"]) == ("mine", "run", "run")
    assert exported(run, "--to", "wandb").returncode == 2
    assert exported(run, "--to", "wandb", "--force").returncode == 0
    assert len({path.name.rpartition("-")[2] for path in (run / "wandb").glob("offline-run-*")}) == 2


def test_trackio_is_rebuilt(run: Path) -> None:
    """Its store has the clean history; a second export is refused, and by force the first is kept as another run."""
    (run / "config.yaml").write_text("sinks: {trackio: {project: exported}}")
    first = exported(run, "--to", "trackio")
    assert first.returncode == 0, first.stderr
    assert first.stdout.endswith(f"19 rows of {run} are in trackio's run exported/run\n")
    steps = [row["step"] for row in SQLiteStorage.get_logs("exported", "run") if "loss" in row]
    assert sorted(steps) == list(range(8))
    again = exported(run, "--to", "trackio")
    assert (again.returncode, "--force" in again.stderr) == (2, True)
    assert exported(run, "--to", "trackio", "--force").returncode == 0
    assert len(trackio.Api().runs("exported")) == 2


def test_a_directory_that_is_no_run_is_named(run: Path, tmp_path: Path) -> None:
    """The message says what was expected, and names a run that is near."""
    with pytest.raises(ConfigError, match=r"has no journal \(metrics\.jsonl\): .* such as .*run$"):
        export(tmp_path, target(tmp_path, Kind.CSV, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_target_that_cannot_be_written_is_named(run: Path) -> None:
    """What the system refuses is told with the target."""
    with pytest.raises(SinkError, match="/dev/null/out cannot be written: Not a directory"):
        export(run, target(run, Kind.CSV, Path("/dev/null/out")))


def test_the_command_says_what_it_did(run: Path, tmp_path: Path) -> None:
    """Code 0 with the number of rows; 2 with a message and no traceback when asked for again."""
    first, second = (exported(run, "--to", "csv", "--out", str(tmp_path / "out")) for _ in range(2))
    assert (first.returncode, first.stdout) == (0, f"19 rows of {run} are in {tmp_path / 'out'}\n")
    assert second.returncode == 2
    assert "--force" in second.stderr
    assert "Traceback" not in second.stderr
