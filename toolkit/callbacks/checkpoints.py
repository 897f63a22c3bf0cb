"""When a checkpoint is worth having, which ones stay, and which is the best by what was held out."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from statistics import fmean
from typing import Any

from toolkit.callbacks import CheckpointEvent, EndEvent, ReportEvent, StartEvent, StepEvent, SubmitEvent
from toolkit.callbacks.asks import Checkpoint
from toolkit.location import is_url
from toolkit.logger import Logger
from toolkit.own_log import log as _log
from toolkit.record import Text
from toolkit.settings.callbacks import Checkpoints
from toolkit.validation.runner import Report


@dataclass(slots=True)
class Entry:
    """A checkpoint: of which step, where, why and when it was saved, and what was held out of it.

    `ours` says that the run had it saved itself. `heldout` has the mean and the lower bound of each result that counts
    for the best.
    """

    step: int
    path: str
    why: str
    time: float
    ours: bool
    heldout: dict[str, dict[str, float]] = field(default_factory=dict)


class CheckpointCallback:
    """Asks for checkpoints, and keeps an index of them in `checkpoints/index.json`. Logs to the `system` stream.

    | key | what |
    |---|---|
    | `checkpoint/saved` | which step was saved, where and why |
    | `checkpoint/best` | which step is the best from now on, and by what |
    | `time/checkpoint_s` | how long the training waited for it |

    A held-out result comes when its policy is long gone, so each policy that is validated is saved too, and stays until
    its result is there. Deleted is only what the run had saved in its own `checkpoints/`, and what a host saved since
    this process began only because it was asked to; never the best. What somebody else deletes leaves the index.
    """

    def __init__(self, settings: Checkpoints, directory: Path) -> None:
        self._settings = settings
        self._directory = directory.resolve()
        self._entries: list[Entry] = []
        self._best: Entry | None = None
        self._submitted: set[int] = set()
        self._early: dict[int, dict[str, dict[str, float]]] = {}
        self._unanswered = 0
        self._expendable: set[str] = set()
        self._there: set[str] = set()
        self._said_unmatched = False
        self._just_saved: Entry | None = None  # a host may save a step once more, as at the end of an epoch

    def on_start(self, event: StartEvent) -> None:
        """Read the index of a run that goes on."""
        index = self._directory / "index.json"
        if index.exists():
            self._entries = [Entry(**entry) for entry in json.loads(index.read_text())["checkpoints"]]
            # Where nothing is there at all, they may lie where this process cannot look.
            if any(map(self._is_there, self._entries)):
                self._there = {entry.path for entry in self._entries if not is_url(entry.path)}
                self._forget_deleted()
            self._best = self._chosen()

    def on_step(self, event: StepEvent) -> None:
        """Ask for a checkpoint when it is due."""
        self._just_saved = None
        if event.step and self._settings.due(event.step):
            event.ask(Checkpoint(f"every {self._settings.every} steps"))
            self._unanswered += 1
            if self._unanswered == 2:
                _log.warning("checkpoints are asked for, and nobody saves them: %s", _REMEDY)

    def on_submit(self, event: SubmitEvent) -> None:
        """Ask for a checkpoint of the policy that is validated."""
        if self._settings.enabled and self._settings.best:
            self._submitted.add(event.step)
            event.ask(Checkpoint("its policy is validated"))

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        """Enter it into the index, and let go of those that are too many."""
        self._unanswered = 0
        path = self._written(event.path)
        again = self._just_saved
        known = again.heldout if again and again.path == path else {}
        heldout = known | self._early.pop(event.step, {})
        entry = self._just_saved = Entry(event.step, path, event.why, time.time(), event.ours, heldout)
        self._entries = [*(other for other in self._entries if other.path != path), entry]
        self._expendable.discard(path)
        if event.expendable and self._settings.enabled:
            self._expendable.add(path)
        row: dict[str, Any] = {"checkpoint/saved": Text(f"step {event.step} at {event.path}: {event.why}")}
        if event.seconds is not None:
            row["time/checkpoint_s"] = event.seconds
        event.logger.log(event.step, row, stream="system")
        self._settle(event.step, event.logger)

    def on_report(self, event: ReportEvent) -> None:
        """Enter what was held out of a checkpoint, and see which is the best now."""
        report = event.report
        self._submitted = {step for step in self._submitted if step > report.policy_step}
        entry = next((entry for entry in reversed(self._entries) if entry.step == report.policy_step), None)
        if entry is None:  # it may be saved yet, if the training waited for this result
            self._early = {report.policy_step: self._early.get(report.policy_step, {})}
        heldout = entry.heldout if entry else self._early[report.policy_step]
        for scorer, estimate in report.estimates.items():
            if self._counts(name := f"{report.dataset}/{scorer}"):
                heldout[name] = {"mean": estimate.mean, "low": estimate.low}
        if self._settings.enabled or self._entries:
            self._say_unmatched(report)
        if entry:
            self._settle(event.step, event.logger)

    def on_end(self, event: EndEvent) -> None:
        """Let go of what was kept for results that will not come."""
        self._submitted.clear()
        if self._entries:
            self._settle(event.step or 0, event.logger)

    def _counts(self, name: str) -> bool:
        best = self._settings.best
        return best is not None and fnmatchcase(name, best)

    def _say_unmatched(self, report: Report) -> None:
        """Warn once of a data set that the best is chosen by, and none of whose scorers is meant."""
        best = self._settings.best
        if not best or self._said_unmatched:
            return
        scorers = {*report.scores, *report.estimates}  # also one that gave no score this time
        is_meant = fnmatchcase(report.dataset, best.partition("/")[0])
        if not is_meant or any(self._counts(f"{report.dataset}/{name}") for name in scorers):
            return
        self._said_unmatched = True
        _log.warning(
            "checkpoints.best: %r matches no scorer of %s, so no checkpoint is the best by it: expected a pattern of "
            "DATASET/SCORER with one of %s, or null for no best checkpoint",
            best,
            report.dataset,
            ", ".join(sorted(scorers)),
        )

    def _settle(self, step: int, logger: Logger) -> None:
        """Choose the best, delete what is too much, write the index."""
        self._forget_deleted()
        best = self._chosen()
        if best is not None and (self._best is None or best.path != self._best.path):
            bounds = ", ".join(f"{name} is at least {found['low']:.4g}" for name, found in best.heldout.items())
            logger.log(step, {"checkpoint/best": Text(f"step {best.step} at {best.path}: {bounds}")}, stream="system")
        self._best = best
        for entry in self._superfluous():
            self._delete(entry, logger)
        self._write_index()

    def _chosen(self) -> Entry | None:
        """The entry whose lower bound is the highest, the mean of them for several; of those with all results."""
        names = {name for entry in self._entries for name in entry.heldout}
        complete = [entry for entry in self._entries if names and entry.heldout.keys() == names]
        return max(complete, key=_lower_bound, default=self._best)

    def _forget_deleted(self) -> None:
        """Drop the entries of what was there and is not; what was never there may still be being written."""
        there = {entry.path for entry in self._entries if self._is_there(entry)}
        deleted, self._there = self._there - there, there
        self._entries = [entry for entry in self._entries if entry.path not in deleted]
        if self._best is not None and self._best.path in deleted:
            self._best = None

    def _is_there(self, entry: Entry) -> bool:
        """Whether it is seen on the disk; nobody looks for a URL."""
        return not is_url(entry.path) and self._whole(entry).exists()

    def _superfluous(self) -> list[Entry]:
        older = [entry for entry in self._entries if self._is_ours(entry)][: -self._settings.keep]
        best = self._best.path if self._best else None
        return [entry for entry in older if entry.path != best and entry.step not in self._submitted]

    def _is_ours(self, entry: Entry) -> bool:
        """Whether it may be deleted: an index may have been copied, and name the checkpoints of another run."""
        if is_url(entry.path):
            return False
        return entry.path in self._expendable or (entry.ours and self._directory in self._whole(entry).parents)

    def _delete(self, entry: Entry, logger: Logger) -> None:
        path = self._whole(entry)
        others = [self._whole(other) for other in self._entries if other is not entry]
        if not any(path == other or path in other.parents for other in others):
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            except OSError as error:
                logger.complaints.add(f"deleting the checkpoint of step {entry.step}", error)
                return
            self._entries.remove(entry)

    def _whole(self, entry: Entry) -> Path:
        return (self._directory / entry.path).resolve()

    def _written(self, path: Path | str) -> str:
        """The path as it stands in the index: from the index, where it lies beside it, so that a run can be moved."""
        if isinstance(path, str):
            return path
        whole = path.resolve()
        return str(whole.relative_to(self._directory)) if self._directory in whole.parents else str(whole)

    def _write_index(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        best = self._best.path if self._best else None
        index = {"best": best, "checkpoints": [asdict(entry) for entry in self._entries]}
        draft = self._directory / "index.json.new"
        with draft.open("w") as file:
            json.dump(index, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, self._directory / "index.json")


def _lower_bound(entry: Entry) -> float:
    return fmean(found["low"] for found in entry.heldout.values())


_REMEDY = "give toolkit.observe a save(step, why), or look at observer.asks.checkpoint and call observer.saved"
