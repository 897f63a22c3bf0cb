"""`BackgroundValidator`: one validation at a time, on a thread of its own."""

from __future__ import annotations

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from toolkit.complaints import Complaints
from toolkit.cores import use_one_core
from toolkit.validation.budget import Budgeted
from toolkit.validation.policy import InlinePolicy, Policy
from toolkit.validation.runner import Report


class BackgroundValidator:
    """Runs `validate(policy, step)`, which gives reports, for submitted policies, in the order of their steps.

    There is one slot, and so never more than one snapshot: while a validation runs, submitted policies are refused, and
    no copy of them is taken. One that takes longer than `budget_s` is given up. What it computes with torch on a CPU it
    computes on one core. What a validation raises is logged and counted, and never reaches the training thread.
    """

    def __init__(
        self,
        validate: Callable[[Policy, int], Iterable[Report]],
        close_s: float = 60.0,
        complaints: Complaints | None = None,
        budget_s: float | None = None,
    ) -> None:
        self.complaints = complaints or Complaints()
        self._validate = validate
        self._close_s = close_s
        self._budget_s = budget_s
        self._running: tuple[int, Policy] | None = None
        self._reports: deque[Report] = deque()
        self._closing = False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="toolkit-validation", daemon=True)
        self._worker.start()

    def submit(self, step: int, policy: Policy) -> bool:
        """Take a snapshot of the policy after `step` updates and validate it. Call it on the training thread.

        False, and nothing is taken, while another validation runs and after `close`. An `InlinePolicy` is validated
        before this returns.
        """
        if self._closing or self._running is not None:
            return False
        if isinstance(policy, InlinePolicy):
            self._report(step, policy)
            return True
        snapshot = policy.snapshot()
        with self._changed:
            self._running = (step, snapshot)
            self._changed.notify_all()
        return True

    def poll(self) -> Report | None:
        """The next finished report, if there is one; never waits."""
        return self._reports.popleft() if self._reports else None

    def close(self, last: tuple[int, Policy] | None = None) -> None:
        """Let the running validation finish, and then that of `last`, for at most `close_s` seconds in all. Idempotent.

        One that is still running then is given as long once more when the interpreter ends: a thread that is inside
        JAX at that moment aborts the process.
        """
        deadline = time.monotonic() + self._close_s
        with self._changed:
            idle = self._changed.wait_for(lambda: self._running is None, self._close_s)
        if last is not None and idle:
            self.submit(*last)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._worker.join(max(0.0, deadline - time.monotonic()))
        if self._worker.is_alive():
            atexit.register(self._worker.join, self._close_s)
            self.complaints.add("the last validation", TimeoutError(f"not finished {self._close_s:g} s after the end"))

    def _work(self) -> None:
        while (submitted := self._next()) is not None:
            use_one_core()
            self._report(*submitted)
            del submitted  # with it goes the snapshot
            with self._changed:
                self._running = None
                self._changed.notify_all()

    def _report(self, step: int, policy: Policy) -> None:
        try:
            for report in self._validate(Budgeted(policy, self._budget_s) if self._budget_s else policy, step):
                self._hand_on(report)
        except Exception as error:  # a policy or a scorer may raise anything; the training must not notice
            self.complaints.add(f"the validation of step {step}", error)

    def _hand_on(self, report: Report) -> None:
        try:
            _ = report.estimates  # worked out here and kept: not by the training thread, which is handed the report
        except Exception as error:  # scores may be anything, and must not cost the other data sets theirs
            self.complaints.add(f"what {report.dataset!r} gave at step {report.policy_step}", error)
        else:
            self._reports.append(report)

    def _next(self) -> tuple[int, Policy] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._running is not None or self._closing)
            return self._running
