"""The one run of a process: begun once, logged to from anywhere, also before it has begun."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from toolkit import build
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.text import TextMetrics
from toolkit.complaints import Complaints
from toolkit.config import Config, Source, load
from toolkit.early import Early, EarlyRow
from toolkit.errors import ToolkitError
from toolkit.rollout import Rollout
from toolkit.settings.metrics import Metrics
from toolkit.trend import Trend
from toolkit.validation.heldout import HeldOut
from toolkit.validation.scorers import Scorer
from toolkit.validation.series import Series
from toolkit.values import Values

T = TypeVar("T")


class SharedRun:
    """Holds the observer while there is one, and keeps what is logged while there is none.

    `config` is the default one until `begin`. `step` is the last step that was logged, for what is logged without one.
    `trends` are those of the run's rewards, by name and window.
    """

    def __init__(self) -> None:
        self.config = Config()
        self.step = 0
        self.observer: Observer | None = None
        self.heldout: HeldOut | Sequence[HeldOut] | None = None
        self.scorers: Mapping[str, Scorer] | None = None
        self.trends: dict[tuple[str, int], Trend] = {}
        self._validations: dict[int | None, Series] = {}
        self._text: TextMetrics | None = None
        self._log_dir: Path | None = None
        self._complaints = Complaints()
        self._early = Early()

    def begin(
        self,
        source: Source,
        log_dir: str | Path | None,
        overrides: Sequence[str],
        heldout: HeldOut | Sequence[HeldOut] | None,
        scorers: Mapping[str, Scorer] | None,
    ) -> Observer:
        """The observer, with what was kept handed over to it; the same again for the same arguments.

        Raises `ToolkitError` for others, and what `build.observer` raises.
        """
        config = load(source, overrides)
        asked = Path(log_dir) if log_dir else None
        if self.observer is not None:
            self._expect_the_same(config, asked, heldout)
            return self.observer
        directory = asked or Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S")
        text = TextMetrics(_on_all_rows(config.metrics))
        observer = build.observer(config, directory, heldout, scorers, closing=[text.close, self._ended])
        self.config, self.heldout, self.scorers, self.trends, self._text = config, heldout, scorers, {}, text
        self._log_dir, self._complaints, self.observer = directory, observer.logger.complaints, observer
        self._early.hand_over(observer.logger)
        return observer

    def logger(self, name: str) -> logging.Logger:
        """The standard library's logger of this name, whose lines are kept until there is a run."""
        if self.observer is None:
            self._early.keep_lines_of(name)
        return logging.getLogger(name)

    def log(self, step: int | None, values: Values, stream: str = "train") -> None:
        """Log a row, now or as soon as there is a run; what it was given must not change any more."""
        self.step = self.step if step is None else int(step)
        if self.observer is not None:
            self.observer.logger.log(self.step, values, stream=stream)
        else:
            self._early.keep(EarlyRow(self.step, values, stream, time.time()))

    def guarded(self, what: str, function: Callable[[], T]) -> T | None:
        """What the function gives; None where it raises, which is said once and harms no training."""
        try:
            return function()
        except Exception as error:  # anything can be passed to the functions of this face
            self._complaints.add(what, error)
            return None

    def judged(self, rollout: Rollout, families: frozenset[str], step: int) -> dict[str, float]:
        """The families that are judged by text, for all completions of the rollout; on the worker thread."""
        return self._text.values(rollout, families, step, self._complaints) if self._text else {}

    def validations(self, count: int | None) -> Series | None:
        """What validates on `count` held-out problems, by default those of the settings; None where there are none."""
        if count not in self._validations:
            found = build.validations_of(self.config, self.heldout, self.scorers, count)
            if found is None:
                return None
            self._validations[count] = found
        return self._validations[count]

    def end(self) -> None:
        """Close the observer, if there is one; another run may begin then."""
        if self.observer is not None:
            self.observer.close()

    def _ended(self) -> None:
        self.observer = None
        while self._validations:
            self._validations.popitem()[1].close()

    def _expect_the_same(
        self, config: Config, log_dir: Path | None, heldout: HeldOut | Sequence[HeldOut] | None
    ) -> None:
        same = (
            config == self.config and log_dir in (None, self._log_dir) and (heldout is None or heldout is self.heldout)
        )
        if not same:
            raise ToolkitError(
                f"there is a run in {str(self._log_dir)!r} already, with other settings: initialize once, or call "
                "close() before another one"
            )


def _on_all_rows(settings: Metrics) -> Metrics:
    """The settings with every completion looked at: what is asked for by a call is asked for as a whole."""
    families = {name: getattr(settings, name).model_copy(update={"sampling_ratio": 1.0}) for name in ("text", "task")}
    return settings.model_copy(update=families)
