"""Checkpoints: when they are asked for, which is the best, which stay, and what is never deleted."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from toolkit.callbacks import CheckpointEvent, ReportEvent
from toolkit.callbacks.checkpoints import CheckpointCallback
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.validation import ValidationCallback
from toolkit.logger import Logger
from toolkit.record import Text
from toolkit.settings.callbacks import Checkpoints, Validation
from toolkit.sinks.memory import MemorySink
from toolkit.validation.background import BackgroundValidator
from toolkit.validation.runner import Report

REFERENCES = ("1",) * 40


class Skilled:
    """A policy that solves a share of the problems."""

    def __init__(self, share: float) -> None:
        self.share = share

    def generate(self, prompts: Sequence[str]) -> list[str]:
        return ["1" if place < self.share * len(prompts) else "0" for place in range(len(prompts))]

    def snapshot(self) -> "Skilled":
        return self


def report(policy: Any, step: int) -> Report:
    """What is held out of a policy: one scorer that counts, and one that does not."""
    prompts = [str(place) for place in range(len(REFERENCES))]
    completions = policy.generate(prompts)
    scores = [float(completion == "1") for completion in completions]
    return Report(
        "sums", "", step, 0.0, prompts, completions, REFERENCES, {"accuracy": scores, "format": [1 - x for x in scores]}
    )


class Run:
    """A run in a directory, whose `save` writes a file for each checkpoint."""

    def __init__(self, path: Path, save: bool = True, **settings: Any) -> None:
        self.directory = path / "checkpoints"
        self.sink = MemorySink()
        callback = CheckpointCallback(Checkpoints(**{"enabled": True, **settings}), self.directory)
        self.validated = threading.Event()
        validation = ValidationCallback(Validation(every=1), BackgroundValidator(self.reports))
        self.callback = callback
        self.observer = Observer(Logger([self.sink]), [callback], validation, path, save=self.save if save else None)

    def reports(self, policy: Any, step: int) -> Iterator[Report]:
        yield report(policy, step)
        self.validated.set()  # when it was taken

    def save(self, step: int, why: str) -> str | Path:
        folder = self.directory / f"step_{step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "weights").write_text(str(step))
        return folder

    def train(self, skills: dict[int, float], steps: int) -> "Run":
        """Steps, and a validation of a policy of the given skill before some of them; then the end."""
        with self.observer:
            for step in range(steps):
                if step in skills:
                    until = time.monotonic() + 10
                    while not self.observer.validate(step, Skilled(skills[step])):  # the one before is not through
                        assert time.monotonic() < until
                        time.sleep(0.001)
                    assert self.validated.wait(10)
                    self.validated.clear()
                self.observer.step(step)
        return self

    @property
    def index(self) -> dict[str, Any]:
        index: dict[str, Any] = json.loads((self.directory / "index.json").read_text())
        return index

    @property
    def kept(self) -> list[int]:
        return sorted(int(path.name.removeprefix("step_")) for path in self.directory.glob("step_*"))


def test_the_newest_stay_and_the_index_says_which_and_why(tmp_path: Path) -> None:
    """Of a checkpoint every two steps the last three are there, with paths that survive a move of the run."""
    run = Run(tmp_path, every=2, keep=3).train({}, 11)
    assert run.kept == [6, 8, 10]
    entries = run.index["checkpoints"]
    assert [(entry["step"], entry["path"], entry["why"]) for entry in entries] == [
        (step, f"step_{step}", "every 2 steps") for step in (6, 8, 10)
    ]
    assert run.index["best"] is None
    assert len(run.sink.series("checkpoint/saved", "system")) == 5
    assert not list(run.directory.glob("*.new"))


def test_the_best_by_its_lower_bound_is_never_deleted(tmp_path: Path) -> None:
    """The policy that was validated, not that of the step at which the result came; the other scorer is not asked."""
    run = Run(tmp_path, every=100, keep=1).train({0: 0.1, 2: 0.9, 4: 0.3, 6: 0.5}, 9)
    assert run.index["best"] == "step_2"
    assert run.kept == [2, 6]
    (best,) = [entry for entry in run.index["checkpoints"] if entry["path"] == "step_2"]
    assert best["heldout"].keys() == {"sums/accuracy"}
    assert 0.7 < best["heldout"]["sums/accuracy"]["low"] < best["heldout"]["sums/accuracy"]["mean"] == 0.9
    said = [text.text for _, text in run.sink.series("checkpoint/best", "system") if isinstance(text, Text)]
    assert said[-1].startswith("step 2 at step_2: sums/accuracy is at least 0.7")


def test_a_result_may_come_before_its_checkpoint(tmp_path: Path) -> None:
    """As where the training waits for a validation and then saves."""
    run = Run(tmp_path, save=False, every=100)
    with run.observer as observer:
        for step in (2, 4):
            run.callback.on_report(ReportEvent(step, report(Skilled(0.9), step), observer.logger))
        observer.saved(4, tmp_path / "host" / "step_4")
        observer.saved(2, tmp_path / "host" / "step_2")
    heldout = {entry["step"]: list(entry["heldout"]) for entry in run.index["checkpoints"]}
    assert heldout == {4: ["sums/accuracy"], 2: []}
    assert Path(run.index["best"]).name == "step_4"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"best": "*/reward"}, 1),
        ({"best": "sums/reward"}, 1),
        ({"best": "*/acc*"}, 0),
        ({"best": "others/reward"}, 0),
        ({"best": None}, 0),
        ({"best": "*/reward", "enabled": False}, 0),
    ],
)
def test_a_pattern_that_no_scorer_matches_is_said_once(
    settings: dict[str, Any], said: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the scorers there are; another data set may have what is meant, and without checkpoints nobody misses it."""
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        Run(tmp_path, every=100, **settings).train({0: 0.1, 2: 0.9}, 5)
    warnings = [message for message in caplog.messages if "checkpoints.best: " in message]
    assert len(warnings) == said
    assert all(f"{settings['best']!r}" in message and "one of accuracy, format" in message for message in warnings)


def test_a_run_that_goes_on_keeps_its_best_and_its_own(tmp_path: Path) -> None:
    """The index of the first life is read by the second, which may delete what the first wrote."""
    Run(tmp_path, every=100, keep=2).train({0: 0.9, 2: 0.2, 4: 0.3}, 5)
    run = Run(tmp_path, every=1, keep=2).train({}, 8)
    assert run.index["best"] == "step_0"
    assert run.kept == [0, 6, 7]


def test_what_the_run_did_not_write_is_never_deleted(tmp_path: Path) -> None:
    """A host's own checkpoints, one outside of the run, one behind a link, and files beside them all stay."""
    run = Run(tmp_path, save=False, every=100, keep=1)
    outside = tmp_path / "elsewhere"
    for folder in (outside, run.directory / "mine", run.directory / "host"):
        folder.mkdir(parents=True)
    (run.directory / "link").symlink_to(outside)
    with run.observer as observer:
        observer.saved(1, run.directory / "host")
        for step, path in enumerate((outside, run.directory / "link"), start=2):
            run.callback.on_checkpoint(CheckpointEvent(step, path, "a test", observer.logger, ours=True))
        for step in range(5, 9):
            saved = run.save(step, "a test")
            run.callback.on_checkpoint(CheckpointEvent(step, saved, "a test", observer.logger, ours=True))
    assert run.kept == [8]
    assert outside.is_dir()
    assert (run.directory / "mine").is_dir()
    assert (run.directory / "host").is_dir()
    assert (run.directory / "link").is_symlink()


def test_a_checkpoint_in_a_bucket_keeps_its_url(tmp_path: Path) -> None:
    """It stands in the index as the saver gave it, also for the run that goes on, may be the best, and is let be."""

    class InBucket(Run):
        def save(self, step: int, why: str) -> str:
            return f"gs://bucket//step_{step}"

    run = InBucket(tmp_path, every=2, keep=1).train({0: 0.9}, 5)
    assert run.index["best"] == "gs://bucket//step_0"
    paths = [entry["path"] for entry in run.index["checkpoints"]]
    assert paths == ["gs://bucket//step_0", "gs://bucket//step_2", "gs://bucket//step_4"]
    said = [text.text for _, text in run.sink.series("checkpoint/saved", "system") if isinstance(text, Text)]
    assert said[1] == "step 2 at gs://bucket//step_2: every 2 steps"
    again = Run(tmp_path, every=1, keep=1).train({}, 7)
    assert [entry["path"] for entry in again.index["checkpoints"]] == [*paths, "step_6"]
    once_more = Run(tmp_path, every=100, keep=1).train({}, 1)
    assert once_more.index == again.index
    assert once_more.index["best"] == paths[0]


@pytest.mark.parametrize("target", [".", "..", "latest"])
def test_a_save_that_always_gives_the_same_path_loses_nothing(tmp_path: Path, target: str) -> None:
    """Neither one checkpoint that is written over, nor a directory that holds the others, is deleted."""

    class Same(Run):
        def save(self, step: int, why: str) -> Path:
            super().save(step, why)
            (self.directory / "latest").mkdir(exist_ok=True)
            return self.directory / target

    run = Same(tmp_path, every=1, keep=1).train({}, 5)
    assert run.kept == [1, 2, 3, 4]
    assert (run.directory / "latest").is_dir()
    assert len(run.index["checkpoints"]) == 1


def test_a_checkpoint_that_cannot_be_deleted_stays_in_the_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is tried again with the next one."""
    refuse = [True]

    def rmtree(path: Path) -> None:
        if refuse[0]:
            raise PermissionError(13, "not allowed")
        (path / "weights").unlink()
        path.rmdir()

    monkeypatch.setattr("toolkit.callbacks.checkpoints.shutil.rmtree", rmtree)
    run = Run(tmp_path, every=1, keep=1)
    with run.observer as observer:
        for step in range(1, 4):
            observer.step(step)
        assert run.kept == [1, 2, 3]
        assert len(run.index["checkpoints"]) == 3
        refuse[0] = False
        observer.step(4)
    assert run.kept == [4]


def test_an_index_that_is_torn_is_no_reason_to_delete(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The run starts a new one, and what the old one named stays for ever."""
    first = Run(tmp_path, every=1, keep=1).train({}, 9)
    (first.directory / "index.json").write_text('{"checkpoints": [{"st')
    run = Run(tmp_path, every=1, keep=1).train({}, 5)
    assert run.kept == [4, 8]
    assert any("CheckpointCallback.on_start" in line for line in caplog.messages)


def hosted(directory: Path, **settings: Any) -> tuple[Observer, Callable[..., Path]]:
    """An observer, and what has a host save a step."""
    callback = CheckpointCallback(Checkpoints(**settings), directory / "run" / "checkpoints")
    observer = Observer(Logger([]), [callback])

    def saved(step: int, **known: bool) -> Path:
        path = directory / f"checkpoint-{step}"
        path.mkdir(exist_ok=True)
        observer.saved(step, path, **known)
        return path

    return observer, saved


def test_what_a_host_saved_only_for_us_is_kept_down_to_a_number(tmp_path: Path) -> None:
    """And what it would have saved anyway is never deleted, also where it says so later, as at the end of an epoch."""
    observer, saved = hosted(tmp_path, enabled=True, keep=2)
    with observer:
        for step in range(1, 8):
            saved(step, expendable=step != 2)
            if step == 3:
                saved(step)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [f"checkpoint-{n}" for n in (2, 3, 6, 7)]


@pytest.mark.parametrize("rewound", [False, True])
def test_a_second_save_of_a_step_keeps_its_result_and_another_training_does_not(tmp_path: Path, rewound: bool) -> None:
    """At the end of an epoch a host saves the same weights once more; after a rewind they are others."""
    observer, saved = hosted(tmp_path, enabled=True)
    index = tmp_path / "run" / "checkpoints" / "index.json"
    with observer:
        saved(4)
        entries = json.loads(index.read_text())["checkpoints"]
    entries[0]["heldout"] = {"sums/accuracy": {"mean": 0.9, "low": 0.8}}
    index.write_text(json.dumps({"best": None, "checkpoints": entries}))
    callback = CheckpointCallback(Checkpoints(enabled=True), tmp_path / "run" / "checkpoints")
    with Observer(Logger([]), [callback]) as observer:
        observer.start()
        if rewound:
            observer.step(3)
        observer.saved(4, tmp_path / "checkpoint-4")
        if not rewound:
            callback.on_report(ReportEvent(4, report(Skilled(0.9), 4), observer.logger))
            observer.saved(4, tmp_path / "checkpoint-4")
    assert bool(json.loads(index.read_text())["checkpoints"][0]["heldout"]) is not rewound


def test_switched_off_nothing_of_a_host_is_deleted(tmp_path: Path) -> None:
    """A callback of the user's own may have asked for it."""
    observer, saved = hosted(tmp_path, keep=1)
    with observer:
        paths = [saved(step, expendable=True) for step in range(4)]
    assert all(path.is_dir() for path in paths)


def test_what_somebody_else_deletes_leaves_the_index(tmp_path: Path) -> None:
    """While the run goes on, and while nothing runs; what is still to be written stays in it."""

    def indexed() -> list[int]:
        index = json.loads((tmp_path / "run" / "checkpoints" / "index.json").read_text())
        return [entry["step"] for entry in index["checkpoints"]]

    observer, saved = hosted(tmp_path, enabled=True)
    with observer:
        first, second, third = (saved(step) for step in range(3))
        first.rmdir()
        observer.saved(3, tmp_path / "checkpoint-3")
        assert indexed() == [1, 2, 3]
    second.rmdir()
    observer, saved = hosted(tmp_path, enabled=True)
    with observer:
        saved(4)
    assert indexed() == [2, 4]
    assert third.is_dir()


def test_nobody_who_saves_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Checkpoints that are switched on and never saved are an oversight; the line says what to do."""
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        Run(tmp_path, save=False, every=1).train({}, 10)
    assert len([line for line in caplog.messages if "observer.saved" in line]) == 1
    assert not os.path.exists(tmp_path / "checkpoints" / "index.json")
