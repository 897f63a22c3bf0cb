"""`Experiment`: what each call logs, where it stands, and what happens when a disk or a caller is wrong."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import toolkit
from tests.disk import room_for
from toolkit.logger import Logger
from toolkit.record import Artifact, HParams, Image, Table, Text, Video
from toolkit.sinks import jsonl
from toolkit.sinks.memory import MemorySink

QUIET = ["sinks.console=false", "sinks.tensorboard=false", "queue.burst_s=0.01"]
WEIGHTS = {"w": np.arange(3.0)}


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
def experiment(sink: MemorySink, tmp_path: Path) -> Iterator[toolkit.Experiment]:
    """An experiment whose records end in memory."""
    with toolkit.Experiment("minimal", tmp_path / "run", [*QUIET, "sinks.jsonl=false"]) as opened:
        opened.observer.logger.close()
        opened.observer.logger = Logger([sink])
        yield opened


def logged(experiment: toolkit.Experiment, sink: MemorySink, key: str, stream: str = "train") -> list[tuple[int, Any]]:
    """The steps and values of a key, once everything is written."""
    experiment.finish()
    return sink.series(key, stream)


def test_metrics_without_a_step_count_their_own(experiment: toolkit.Experiment, sink: MemorySink) -> None:
    """The first is 0, each next one more, and after a given step it goes on from there."""
    for step in (None, None, 10, None):
        experiment.log_metrics({"loss": 0.5}, step)
    assert [step for step, _ in logged(experiment, sink, "loss")] == [0, 1, 10, 11]


def test_a_continued_run_counts_on(tmp_path: Path) -> None:
    """Steps that nobody gives go on behind those of the session before, so that no view takes it for a rewind."""
    for _ in range(2):
        with toolkit.Experiment("minimal", tmp_path / "run", QUIET) as experiment:
            experiment.log_text("note", "before any metrics")
            for _ in range(3):
                experiment.log_metrics({"loss": 0.5})
    records = list(jsonl.read(tmp_path / "run" / "metrics.jsonl"))
    assert [record.step for record in records if "loss" in record.values] == [0, 1, 2, 3, 4, 5]
    assert [record.step for record in records if "note" in record.values] == [0, 3]


def test_nested_metrics_and_slashes_are_the_same(experiment: toolkit.Experiment, sink: MemorySink) -> None:
    """`{"a": {"b": 1}}` is `{"a/b": 1}`, at any depth."""
    experiment.log_metrics({"training": {"loss": 0.5, "deep/er": {"still": 1}}, "evaluation/reward": 150})
    experiment.finish()
    assert sink.records[-1].values == {"training/loss": 0.5, "training/deep/er/still": 1.0, "evaluation/reward": 150.0}


def test_media_texts_and_tables_belong_to_the_last_step(experiment: toolkit.Experiment, sink: MemorySink) -> None:
    """Or to the step that is given; each is a value of its own type."""
    experiment.log_metrics({"loss": 0.5}, step=7)
    pixels, frames = np.zeros((4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3), np.uint8)
    experiment.log_image("state", pixels, caption="a start")
    experiment.log_video("episode", frames, fps=5, step=8)
    experiment.log_text("note", "*well*")
    experiment.log_table("rows", ["a", "b"], [["x", 1.0]])
    experiment.alert("diverged", "the loss is NaN")
    ((step, image),) = logged(experiment, sink, "state")
    assert step == 7
    assert isinstance(image, Image)
    assert (image.pixels.shape, image.caption) == ((4, 4, 3), "a start")
    ((step, video),) = sink.series("episode")
    assert step == 8
    assert isinstance(video, Video)
    assert (video.frames.shape, video.fps) == ((2, 4, 4, 3), 5)
    assert sink.series("note") == [(7, Text("*well*"))]
    assert sink.series("rows") == [(7, Table(("a", "b"), [["x", 1.0]]))]
    assert sink.series("alert/diverged") == [(7, Text("the loss is NaN"))]


def test_what_has_no_step_belongs_to_the_last_one_of_the_observer(
    experiment: toolkit.Experiment, sink: MemorySink
) -> None:
    """Where the loop hands its steps to the observer and logs no metrics."""
    experiment.observer.step(7)
    experiment.log_text("note", "*well*")
    experiment.save_model(WEIGHTS, "model")
    assert [step for step, _ in logged(experiment, sink, "note")] == [7]
    assert [step for step, _ in sink.series("artifacts/model", "artifacts")] == [7]


def test_a_model_is_saved_sent_and_loaded_by_name(experiment: toolkit.Experiment, sink: MemorySink) -> None:
    """In the run's directory, as an artifact of the backends with its metadata and checksum, in versions."""
    experiment.log_metrics({"loss": 0.5}, step=1000)
    artifact = experiment.save_model(WEIGHTS, "best_model", metadata={"step": 1000, "reward": 100.0})
    assert artifact is not None
    assert artifact.path == experiment.log_dir / "artifacts" / "best_model" / "v1" / "content"
    assert artifact.metadata == {"step": 1000, "reward": 100.0}
    assert len(artifact.sha256) == 64
    second = experiment.save_model({"w": np.zeros(1)}, "best_model", step=1001)
    expected: list[tuple[int, Artifact | None]] = [(1000, artifact), (1001, second)]
    assert logged(experiment, sink, "artifacts/best_model", "artifacts") == expected
    assert experiment.load_model("best_model", version=1)["w"].tolist() == [0.0, 1.0, 2.0]
    assert experiment.load_model("best_model")["w"].tolist() == [0.0]


def test_a_file_is_an_artifact_too(experiment: toolkit.Experiment, sink: MemorySink) -> None:
    """It is copied, so that it stays as it was."""
    artifact = experiment.log_artifact(__file__, "source")
    ((_, sent),) = logged(experiment, sink, "artifacts/source", "artifacts")
    assert isinstance(sent, Artifact)
    assert sent == artifact
    assert (sent.kind, sent.path.read_text()) == ("file", Path(__file__).read_text())


def test_a_full_disk_ends_no_training(
    experiment: toolkit.Experiment, sink: MemorySink, caplog: pytest.LogCaptureFixture
) -> None:
    """The model is not saved, which is logged and counted; everything else goes on."""
    rows = np.random.default_rng(0).normal(size=10_000)
    with caplog.at_level(logging.WARNING, logger="toolkit"), room_for(4096):
        assert experiment.save_model({"w": rows}, "model") is None
    experiment.log_metrics({"loss": 0.5})
    assert any("saving the artifact 'model'" in message for message in caplog.messages)
    assert experiment.observer.logger.health.bad_values == 1
    assert logged(experiment, sink, "artifacts/model", "artifacts") == []
    assert sink.series("loss") == [(0, 0.5)]


def test_what_could_never_be_saved_raises_at_once(experiment: toolkit.Experiment) -> None:
    """A bad name, an object that is no model, metadata of another kind, and what is not there."""
    calls = [
        lambda: experiment.save_model(WEIGHTS, "best/model"),
        lambda: experiment.save_model(object(), "model"),
        lambda: experiment.save_model(WEIGHTS, "model", {"rows": [1, 2]}),
        lambda: experiment.log_artifact("nowhere.txt", "file"),
        lambda: experiment.load_model("model"),
    ]
    for call in calls:
        with pytest.raises(toolkit.ArtifactError):
            call()


def test_settings_of_ones_own_join_the_configuration(experiment: toolkit.Experiment, sink: MemorySink) -> None:
    """Flat beside the resolved settings in the backends, and as YAML in the run's directory; any object by its text."""
    experiment.log_config(
        {"model": {"layers": 2, "sizes": (8, np.int64(16)), "path": Path("a/b")}, "seed": np.float32(1)}
    )
    experiment.log_config({"note": None})
    ((_, _), (step, settings)) = logged(experiment, sink, "config", "system")
    assert step == 0
    assert isinstance(settings, HParams)
    own = {"model.layers": 2, "model.sizes": "8, 16", "model.path": "a/b", "seed": 1.0, "note": None}
    assert {key: value for key, value in settings.values.items() if key in own} == own
    assert settings.values["metrics.rewards.every"] == 1
    assert yaml.safe_load((experiment.log_dir / "custom_config.yaml").read_text()) == {
        "model": {"layers": 2, "sizes": [8, 16], "path": "a/b"},
        "seed": 1.0,
        "note": None,
    }
    with pytest.raises(toolkit.ConfigError, match="expected a mapping of settings, got a list"):
        experiment.log_config(["a"])  # type: ignore[arg-type]  # wrong on purpose


def test_a_wrong_value_or_step_ends_no_training(experiment: toolkit.Experiment, sink: MemorySink) -> None:
    """It is left out and counted, and the count of steps goes on."""
    experiment.log_metrics({"loss": object(), "good": 1.0})
    experiment.log_metrics({"good": 2.0}, step="three")  # type: ignore[arg-type]  # wrong on purpose
    experiment.log_metrics({"good": 3.0})
    assert logged(experiment, sink, "good") == [(0, 1.0), (1, 3.0)]
    assert experiment.observer.logger.health.bad_values == 2


def test_a_run_is_written_at_the_end_of_the_block_also_when_it_raises(tmp_path: Path) -> None:
    """The journal has every row and the configuration, and the observer takes the steps of a loop."""

    def train() -> None:
        with toolkit.Experiment("minimal", tmp_path, QUIET) as experiment:
            experiment.observer.step(0, toolkit.Rollout(rewards={"r": [0.0, 1.0]}))
            experiment.log_metrics({"mine": 0.5})
            raise RuntimeError("a bug of the loop")

    with pytest.raises(RuntimeError, match="a bug of the loop"):
        train()
    records = list(jsonl.read(tmp_path / "metrics.jsonl"))
    found: dict[str, object] = {key: value for record in records for key, value in record.values.items()}
    assert (found["mine"], found["rewards/r/mean"]) == (0.5, 0.5)
    assert isinstance(found["config"], HParams)
