"""Held-out results, logged at the step of the policy they measured, whenever they come."""

from __future__ import annotations

from toolkit.callbacks import StepEvent
from toolkit.logger import Logger
from toolkit.settings.callbacks import Validation
from toolkit.validation.background import BackgroundValidator
from toolkit.validation.policy import Policy


class ValidationCallback:
    """Submits policies on schedule and logs finished reports to the `heldout` stream.

    | key | what |
    |---|---|
    | `heldout/DATASET/SCORER`, `_se`, `_low`, `_high` | mean, standard error by prompt, 95 % interval |
    | `heldout/DATASET/duration_s`, `time/validation_s` | how long the validation took |
    | `heldout/DATASET/finished_step` | the training step at which it finished |
    """

    def __init__(self, settings: Validation, validator: BackgroundValidator, logger: Logger) -> None:
        self._settings = settings
        self._validator = validator
        self._logger = logger
        self._step = 0

    def submit(self, step: int, policy: Policy, always: bool = False) -> bool:
        """Validate the policy if that is due at `step`, or `always`; True if it was taken."""
        due = always or self._settings.due(int(step))
        return due and self._validator.submit(int(step), policy)

    def on_step(self, event: StepEvent) -> None:
        """Log the reports that have finished since the last step."""
        self._step = event.step
        self._log_finished()

    def close(self) -> None:
        """Wait for the last validation, as long as is configured, and log it."""
        self._validator.close()
        self._log_finished()

    def _log_finished(self) -> None:
        while (report := self._validator.poll()) is not None:
            finished = {f"heldout/{report.dataset}/finished_step": self._step, "time/validation_s": report.duration_s}
            values = {**report.values(), **finished}
            self._logger.log(self._step, values, stream="heldout", policy_step=report.policy_step)
