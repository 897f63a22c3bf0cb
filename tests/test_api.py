"""`observe` and `watch` as a user calls them: a run's directory, and bad input refused before training."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import toolkit
from tests.validation.policies import Echo
from toolkit import build
from toolkit.errors import ConfigError
from toolkit.record import HParams, Record
from toolkit.sinks import jsonl
from toolkit.validation.heldout import HeldOut

QUIET = ["sinks.console=false", "metrics.format=false", "metrics.groups=false"]
HELDOUT = HeldOut("echo", ["1", "2", "3"], ["1", "2", "0"])


def rollout() -> toolkit.Rollout:
    return toolkit.Rollout(
        rewards={"correct": [1.0, 0.0, 1.0, 0.5]},
        mask=np.ones((4, 3), bool),
        prompts=["p"] * 4,
        completions=["<answer>1</answer>"] * 4,
    )


def run(log_dir: Path, steps: range, overrides: list[str] | None = None) -> list[Record]:
    with toolkit.observe("grpo", log_dir, overrides=[*QUIET, *(overrides or [])], heldout=HELDOUT) as observer:
        for step in steps:
            observer.validate(step, Echo())
            observer.step(step, rollout(), values={"loss": 0.1 * step})
    return list(jsonl.read(log_dir / "metrics.jsonl"))


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 30 steps."""
    path = tmp_path_factory.mktemp("runs") / "a"
    run(path, range(30))
    return path


def test_a_runs_directory_has_what_the_design_says(log_dir: Path) -> None:
    """Configuration, journal, samples and TensorBoard files each stand at their place."""
    names = {path.name for path in log_dir.iterdir()}
    assert names == {".lock", "config.yaml", "metrics.jsonl", "samples", "tensorboard"}
    config = yaml.safe_load((log_dir / "config.yaml").read_text())
    assert config["metrics"]["format"]["enabled"] is False
    assert len(list(jsonl.read(log_dir / "samples" / "completions.jsonl"))) == 2


def test_the_journal_has_every_step_and_the_settings(log_dir: Path) -> None:
    """Thirty training rows in order, the held-out result of the first policy, and the resolved configuration."""
    records = list(jsonl.read(log_dir / "metrics.jsonl"))
    train = [record for record in records if record.stream == "train"]
    assert [record.step for record in train] == list(range(30))
    assert train[-1].values["rewards/correct/moving_average"] == 0.625
    assert train[-1].values["trainer/loss"] == pytest.approx(2.9)
    assert [record.policy_step for record in records if record.stream == "heldout"] == [0]
    assert any(isinstance(value, HParams) for record in records for value in record.values.values())


def test_tensorboard_shows_what_the_journal_holds(log_dir: Path) -> None:
    """Every scalar of the journal is in TensorBoard's files, at the same step, equal as a 32-bit float."""
    accumulator = EventAccumulator(str(log_dir / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    journal: dict[str, list[tuple[int, float]]] = {}
    for record in jsonl.read(log_dir / "metrics.jsonl"):
        for key, value in record.values.items():
            if isinstance(value, float):
                journal.setdefault(key, []).append((record.policy_step, float(np.float32(value))))
    shown = {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in journal}
    assert len(journal) > 50
    assert shown == journal


def test_a_directory_that_holds_a_run_is_continued(tmp_path: Path) -> None:
    """A second observer on the same directory appends; nothing of the first is lost or rewritten."""
    first = (run(tmp_path, range(3)), (tmp_path / "metrics.jsonl").read_bytes())[1]
    records = run(tmp_path, range(3, 5))
    assert (tmp_path / "metrics.jsonl").read_bytes().startswith(first)
    assert [record.step for record in records if record.stream == "train"] == [0, 1, 2, 3, 4]


def test_a_run_that_is_resumed_earlier_shows_one_history_everywhere(tmp_path: Path) -> None:
    """After a resume at an earlier step TensorBoard and CSV have each step once, and as the newest session saw it."""
    run(tmp_path, range(6), ["sinks.csv=true"])
    run(tmp_path, range(3, 5), ["sinks.csv=true"])
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in accumulator.Scalars("trainer/loss")] == [0, 1, 2, 3, 4]
    metrics = pd.read_csv(tmp_path / "csv" / "metrics.csv")
    assert metrics[metrics["key"] == "trainer/loss"]["policy_step"].tolist() == [0, 1, 2, 3, 4]
    samples = pd.read_csv(tmp_path / "csv" / "samples.completions.csv")
    assert set(samples["policy_step"]) == {0}


def test_a_family_that_is_off_is_not_measured(tmp_path: Path) -> None:
    """With `metrics.rewards=false` there is no key of the family anywhere, its trends included."""
    records = run(tmp_path, range(2), ["metrics.rewards=false"])
    assert not [key for record in records for key in record.values if key.startswith("rewards/")]
    assert [key for record in records for key in record.values if key.startswith("completions/")]


@pytest.mark.parametrize("sinks", [["sinks.jsonl=false"], ["sinks.tensorboard=false"]])
def test_a_sink_that_is_off_leaves_no_files(sinks: list[str], tmp_path: Path) -> None:
    """Each backend is switched in the configuration alone."""
    with toolkit.observe("grpo", tmp_path, overrides=[*QUIET, *sinks]) as observer:
        observer.step(0, rollout())
    left_out = {"sinks.jsonl=false": "metrics.jsonl", "sinks.tensorboard=false": "tensorboard"}[sinks[0]]
    assert not (tmp_path / left_out).exists()
    assert (tmp_path / "config.yaml").exists()


def test_a_directory_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    """The error names the directory and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(toolkit.SinkError, match=r"log_dir '.*file/run' cannot be written: Not a directory"):
        toolkit.observe("grpo", tmp_path / "file" / "run")


def test_a_run_stops_early_with_a_checkpoint_and_leaves_its_pictures(tmp_path: Path) -> None:
    """A loss that falls no longer ends the loop; first its state is saved, at the same step and for that reason."""
    settings = {
        "sinks": {"console": False},
        "plateau": {"enabled": True, "metrics": ["trainer/loss"], "falling": True, "window": 10, "stop": True},
        "media": {"every": 5},
    }
    saved: list[tuple[int, str]] = []

    def save(step: int, why: str) -> Path:
        saved.append((step, why))
        return tmp_path / "checkpoints" / str(step)

    media = {"bar": lambda scene: np.full((4, 4), scene.values["loss"] / 2)}
    with toolkit.observe(settings, tmp_path, media=media, save=save) as observer:
        for step in range(100):
            observer.step(step, values={"loss": max(1.0 - step / 10, 0.25)})
            observer.logger.flush()  # findings come from the worker, some steps later in a loop that does not wait
            if observer.asks.stop:
                break
    assert saved == [(step, observer.asks.stop)]
    assert saved[0][1].startswith("plateau: trainer/loss has not fallen")
    assert 17 < step < 40
    keys = [key for record in jsonl.read(tmp_path / "metrics.jsonl") for key in record.values]
    said = [key for key in keys if key.startswith(("alert/", "asked/", "checkpoint/"))]
    assert said == ["alert/plateau", "asked/checkpoint", "asked/stop", "checkpoint/saved"]
    pictures = [record for record in jsonl.read(tmp_path / "samples" / "completions.jsonl") if record.values]
    assert [record.step for record in pictures] == list(range(0, step + 1, 5))


def test_a_sink_that_cannot_start_is_named(tmp_path: Path) -> None:
    """When a backend's own place is taken by a file, the error names the backend and the path."""
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(toolkit.SinkError, match=r"sinks\.tensorboard: cannot start: .*tensorboard"):
        toolkit.observe("grpo", tmp_path, overrides=QUIET)


def test_a_mistyped_key_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """A configuration error leaves no directory behind."""
    with pytest.raises(toolkit.ConfigError, match=r"did you mean 'metrics\.policy'"):
        toolkit.observe({"metrics": {"polcy": False}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_held_out_data_of_another_kind_is_refused(tmp_path: Path) -> None:
    """A plain list has no references to score against; the error says what to give."""
    with pytest.raises(toolkit.ConfigError, match=r"expected toolkit\.HeldOut"):
        toolkit.observe("grpo", tmp_path / "run", heldout=["1+1="])  # type: ignore[list-item]  # wrong on purpose
    assert not (tmp_path / "run").exists()


def test_what_is_no_trainer_cannot_be_watched() -> None:
    """`watch` says what it expected, and what to use instead."""
    with pytest.raises(toolkit.ToolkitError, match="dict is not a trainer that can be watched"):
        toolkit.watch({})


@pytest.mark.parametrize("values", [{"loss": 0.5}, {}])
def test_a_forgotten_close_is_made_up_for_at_the_end_of_the_process(
    values: Mapping[str, float], tmp_path: Path
) -> None:
    """A script that never closes its observer has its last validation and every row all the same."""
    code = f"""
from pathlib import Path
import toolkit
from tests.test_api import HELDOUT, QUIET, rollout
from tests.validation.policies import Echo
observer = toolkit.observe("grpo", {str(tmp_path)!r}, overrides=QUIET, heldout=HELDOUT)
observer.step(1, rollout(), values={dict(values)!r})
observer.validate(1, Echo(), always=True)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    records = list(jsonl.read(tmp_path / "metrics.jsonl"))
    assert [record.values["heldout/echo/accuracy"] for record in records if record.stream == "heldout"] == [2 / 3]
    assert [record.step for record in records if record.stream == "train"] == [1]


def test_the_end_of_a_run_waits_longer_than_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise rows of process 0 could be lost for one that does not come: refused before anything is written."""
    monkeypatch.setattr(build, "process_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"processes.wait_s: 60.*80 s.*only waits 30 s.*3/4 of queue.close_s"):
        toolkit.observe("grpo", tmp_path / "run", overrides=["processes.wait_s=60"])
    assert not (tmp_path / "run").exists()
