"""Held-out results, logged at the step of the policy they measured, whenever they come."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.callbacks import ReportEvent, StepEvent
from toolkit.record import Text
from toolkit.settings.callbacks import Validation
from toolkit.validation.background import BackgroundValidator
from toolkit.validation.heldout import HeldOut
from toolkit.validation.policy import Policy
from toolkit.validation.runner import Report


class ValidationCallback:
    """Submits policies on schedule and logs finished reports to the `heldout` stream.

    | key | what |
    |---|---|
    | `heldout/DATASET/SCORER`, `_se`, `_low`, `_high` | mean, standard error by prompt, 95 % interval |
    | `heldout/DATASET/duration_s`, `time/validation_s` | how long the validation took |
    | `heldout/DATASET/submitted_step`, `finished_step` | the training steps at which it was submitted and finished |
    | `heldout/DATASET/fingerprint` | digest of the data |

    A policy that is refused, because another one is being validated, is left out; the last one of the training is
    validated when it ends. `data` is what it validates on, for others who need texts that are not trained on.
    """

    def __init__(self, settings: Validation, validator: BackgroundValidator, data: Sequence[HeldOut] = ()) -> None:
        self.data = data
        self._settings = settings
        self._validator = validator
        self._step = 0
        self._refused: tuple[int, Policy] | None = None
        self._submitted: dict[int, int] = {}

    def submit(self, step: int, policy: Policy, always: bool = False) -> bool:
        """Validate the policy if that is due at `step`, or `always`; True if it was taken."""
        step = int(step)
        if not (always or self._settings.due(step)) or step in self._submitted:
            return False
        taken = self._validator.submit(step, policy)
        if taken:
            self._submitted[step] = max(step, self._step)
        self._refused = None if taken else (step, policy)
        return taken

    def on_step(self, event: StepEvent) -> None:
        """Keep the step."""
        self._step = event.step
        if self._refused is not None and self._refused[0] < event.step:
            self.forget_policy()  # it has been trained on

    def forget_policy(self) -> None:
        """Let go of a policy that was refused: no copy was taken of it."""
        self._refused = None

    def poll(self) -> Report | None:
        """The next finished report, if there is one; never waits."""
        return self._validator.poll()

    def on_report(self, event: ReportEvent) -> None:
        """Log the report."""
        report = event.report
        steps = {
            f"heldout/{report.dataset}/submitted_step": self._submitted.get(report.policy_step, report.policy_step),
            f"heldout/{report.dataset}/finished_step": event.step,
            f"heldout/{report.dataset}/fingerprint": Text(report.fingerprint),
            "time/validation_s": report.duration_s,
        }
        # The worker puts the values together: those of a thousand completions take a while.
        policy_step = report.policy_step
        event.logger.log(event.step, lambda: report.values() | steps, stream="heldout", policy_step=policy_step)

    def close(self) -> None:
        """Wait for the running validation and that of the last policy, as long as is configured."""
        last, self._refused = self._refused, None
        self._validator.close(last)
