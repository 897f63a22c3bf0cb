"""When something is due by wall time; by steps of training it is each section of the configuration that knows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class EverySeconds:
    """Due at the first call and then when at least `seconds` have passed since it was last due."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _last: float = field(default=float("-inf"), init=False)

    def due(self) -> bool:
        """Whether the time has come; a True starts the next wait."""
        now = self.clock()
        if now - self._last < self.seconds:
            return False
        self._last = now
        return True
