"""What the training costs in floating point operations, and what it gets for them."""

from __future__ import annotations

from dataclasses import replace

from toolkit.record import Record, Value
from toolkit.settings.metrics import ComputeFamily

_TRAINED, _GENERATED = 6.0, 2.0
"""FLOPs for each parameter and token, of forward and backward and of forward alone (Kaplan et al. 2020, 2001.08361)."""


class ComputeCost:
    """A processor that adds `compute/` to the rows of training, and the gain by device hour to those of held-out data.

    The operations follow from `throughput/tokens`, and are those of all steps that train on the tokens; what lies
    between two rows that were logged counts as the later of them.
    `peak_flops` is that of one device, if it is known.
    """

    def __init__(self, settings: ComputeFamily, peak_flops: float | None, devices: int) -> None:
        self._settings = settings
        self._peak = peak_flops * devices if peak_flops else None
        self._devices = devices
        self._total = 0.0
        self._last_step: int | None = None
        self._first: dict[str, tuple[float, float]] = {}  # of a key: when it was first seen, and its value then

    def __call__(self, record: Record) -> Record:
        """The record with what can be said about it."""
        if record.stream == "train" and self._settings.parameters:
            return replace(record, values={**record.values, **self._costs(record, self._settings.parameters)})
        if record.stream == "heldout":
            return replace(record, values={**record.values, **self._gains(record)})
        return record

    def _costs(self, record: Record, parameters: int) -> dict[str, Value]:
        tokens = record.values.get("throughput/tokens")
        if not isinstance(tokens, float):
            return {}
        trained, generated = _TRAINED * self._settings.passes, _GENERATED
        flops = (trained + generated) * parameters * tokens
        since, self._last_step = self._last_step, record.step
        rollouts = (record.step - since) // self._settings.steps if since is not None else 1
        self._total += flops * max(rollouts, 1)
        if not self._settings.due(record.step, since):
            return {}
        costs: dict[str, Value] = {"compute/flops": flops, "compute/flops_total": self._total}
        step_s, reward = record.values.get("time/step_s"), record.values.get("rewards/total/moving_average")
        if self._peak and isinstance(step_s, float) and step_s > 0:
            of_step = (_TRAINED * self._settings.passes_a_step + generated) * parameters * tokens
            costs["compute/mfu"] = of_step / step_s / self._peak
        if isinstance(reward, float):
            _, first = self._first.setdefault("reward", (record.time, reward))
            costs["compute/reward_per_pflop"] = (reward - first) / (self._total / 1e15)
        return costs

    def _gains(self, record: Record) -> dict[str, Value]:
        """How much each accuracy rose since the first one, by hours of all devices."""
        gains: dict[str, Value] = {}
        for key, value in record.values.items():
            if key.endswith("/accuracy") and isinstance(value, float):
                started, first = self._first.setdefault(key, (record.time, value))
                hours = (record.time - started) / 3600 * self._devices
                if hours > 0:
                    gains[f"{key}_gain_per_device_hour"] = (value - first) / hours
        return gains
