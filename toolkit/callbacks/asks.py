"""What a callback may ask of the training: a checkpoint, or to stop. Whoever trains reads it, and decides."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeAlias

from toolkit.agreement import Agreement
from toolkit.processes import process_count

_MOST_REASONS = 5


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Please save the state of the training as it is after this step."""

    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Please end the training after this step."""

    why: str


Request: TypeAlias = Checkpoint | Stop


class Asks:
    """What is asked of the training now: `checkpoint` and `stop` are the reasons for it, None where nobody asks.

    A loop looks after each step, for the checkpoint first. The training thread alone changes what is in here, so that
    a loop never sees the half of what was asked.
    """

    def __init__(self) -> None:
        self._checkpoint: list[str] = []
        self._stop: list[str] = []

    @property
    def checkpoint(self) -> str | None:
        """Why a checkpoint is wanted, until it was saved."""
        return "; ".join(self._checkpoint) or None

    @property
    def stop(self) -> str | None:
        """Why the training should end."""
        return "; ".join(self._stop) or None

    def add(self, request: Request) -> bool:
        """Take a request; False if that was asked for the same reason already, or for many."""
        if new := self.lacks(request):
            self._reasons(request).append(request.why)
        return new

    def lacks(self, request: Request) -> bool:
        """Whether it would be news."""
        reasons = self._reasons(request)
        return request.why not in reasons and len(reasons) < _MOST_REASONS

    def checkpoint_done(self) -> None:
        """A checkpoint was saved, or could not be: it is wanted no longer."""
        self._checkpoint.clear()

    def as_text(self) -> str | None:
        """All that is asked, for other processes; None where nothing is."""
        return json.dumps([self._checkpoint, self._stop]) if self._checkpoint or self._stop else None

    def take_in(self, text: str) -> None:
        """Ask for what another process's `as_text` says."""
        checkpoint, stop = json.loads(text)
        requests: list[Request] = [*map(Checkpoint, checkpoint), *map(Stop, stop)]
        for request in requests:
            self.add(request)

    def clear(self) -> None:
        """Nothing is asked any more."""
        self._checkpoint.clear()
        self._stop.clear()

    def _reasons(self, request: Request) -> list[str]:
        return self._checkpoint if isinstance(request, Checkpoint) else self._stop


class Requests:
    """What callbacks ask of the training: of one process at once in `asks`, of several when all of them know.

    With an `agreement` that is after every step, in each process after the same one.
    """

    def __init__(self, agreement: Agreement | None = None) -> None:
        self.asks = Asks()
        self.agreement = agreement
        self._wanted = Asks() if agreement else self.asks

    @property
    def agree(self) -> bool:
        """Whether what is asked is the same in all processes of the run."""
        return self.agreement is not None or process_count() == 1

    def add(self, request: Request) -> bool:
        """Take a request; False if it is no news."""
        return self.asks.lacks(request) and self._wanted.add(request)

    def settle(self, step: int) -> None:
        """Ask for what the processes agree on after this step."""
        if self.agreement and (agreed := self.agreement.settled(step, self._wanted.as_text())):
            self._wanted.clear()
            self.asks.take_in(agreed)

    def forget_checkpoint(self) -> None:
        """No checkpoint is wanted any longer."""
        self._wanted.checkpoint_done()
        self.asks.checkpoint_done()

    def forget(self) -> None:
        """Nothing is."""
        self._wanted.clear()
        self.asks.clear()
