"""What the run takes of the machine, and what the observer takes of the run."""

import os

import psutil

from toolkit.callbacks import StepEvent
from toolkit.callbacks.resources import HealthCallback, MemoryCallback
from toolkit.logger import Logger
from toolkit.settings.metrics import Family
from toolkit.sinks.memory import MemorySink


def test_memory_is_the_resident_memory_of_this_process() -> None:
    """The value lies near what psutil says, and the peak is never under the mean."""
    sink = MemorySink()
    callback = MemoryCallback(Family(every=2))
    with Logger([sink]) as logger:
        for step in range(5):
            callback.on_step(StepEvent(step, logger))
    rows = [record.values for record in sink.records]
    assert len(rows) == 3
    rss, mean, peak = (rows[-1][f"memory/host_rss_bytes{end}"] for end in ("", "_mean", "_peak"))
    assert isinstance(rss, float)
    assert 0.5 < rss / psutil.Process(os.getpid()).memory_info().rss < 2
    assert isinstance(mean, float)
    assert isinstance(peak, float)
    assert peak >= mean > 0


def test_health_shows_what_was_dropped_and_what_it_cost() -> None:
    """The counters of the logger and the observer's own time are in the system stream."""
    sink = MemorySink()
    with Logger([sink]) as logger:
        logger.log(0, {"bad": object()})
        logger.flush()
        HealthCallback(Family()).on_step(StepEvent(4, logger, overhead_s=0.25, overhead_fraction=0.01))
    values = sink.records[-1].values
    assert sink.records[-1].stream == "system"
    assert values["observer/overhead_s"] == 0.25
    assert values["observer/overhead_fraction"] == 0.01
    assert values["observer/bad_values"] == 1.0
    assert values["observer/dropped"] == values["observer/sink_failures"] == 0.0
