"""The metrics of a step in one row."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.callbacks import Source, StepEvent
from toolkit.callbacks.metrics import MetricsCallback
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.text import TextMetrics
from toolkit.config import load
from toolkit.logger import Logger
from toolkit.measure import measure
from toolkit.record import Record
from toolkit.rollout import Rollout
from toolkit.settings.metrics import Metrics
from toolkit.sinks.memory import MemorySink

SETTINGS = load({"metrics": {"format": False, "groups": False, "policy": {"every": 2}}}).metrics


def rollout(**changes: object) -> Rollout:
    fields: dict[str, object] = {
        "rewards": {"correct": [1.0, 0.0, None, 1.0]},
        "mask": np.ones((4, 3), bool),
        "logp": np.full((4, 3), -0.5, np.float32),
        "timings": {"generation_s": 0.25},
    }
    return Rollout(**{**fields, **changes})  # type: ignore[arg-type]  # a mapping of fields has no types


def rows(
    *rollouts: Rollout | Callable[[], Rollout] | None, update: Rollout | None = None, settings: Metrics = SETTINGS
) -> list[dict[str, object]]:
    sink = MemorySink()
    callback = MetricsCallback(settings)
    with Logger([sink]) as logger:
        for step, given in enumerate(rollouts):
            source, second = (None if one is None else Source(one) for one in (given, update))
            callback.on_step(StepEvent(step, logger, source, second, {"loss": 0.5}, step_s=2.0))
            logger.flush()
    return [dict(record.values) for record in sink.records]


def test_one_row_has_the_metrics_the_times_and_the_hosts_scalars() -> None:
    """What the rollout gives, what the clock gives and what the loop gives stand in one record."""
    (row,) = rows(rollout())
    assert row["rewards/correct/mean"] == pytest.approx(2 / 3)
    assert row["rewards/correct/coverage"] == 0.75
    assert row["policy/entropy_mc"] == 0.5
    assert row["throughput/tokens_per_s"] == 6.0
    assert row["time/step_s"] == 2.0
    assert row["time/generation_s"] == 0.25
    assert row["trainer/loss"] == 0.5


def test_a_family_is_measured_only_when_it_is_due() -> None:
    """`policy` every two steps is in every second row; `format` off is in none."""
    found = rows(rollout(), rollout(), rollout())
    assert ["policy/entropy_mc" in row for row in found] == [True, False, True]
    assert not any(key.startswith("format/") for row in found for key in row)


def test_device_arrays_may_be_donated_right_after_the_step() -> None:
    """The worker measures copies: while it compiles, and afterwards, every step keeps its own values."""
    sink = MemorySink()
    callback = MetricsCallback(SETTINGS)
    donate = jax.jit(lambda x: x * 0, donate_argnums=0)
    with Logger([sink]) as logger:
        for step in range(0, 6, 2):
            logp = jnp.full((4, 3), -1.0 - step)
            callback.on_step(StepEvent(step, logger, Source(rollout(logp=logp)), step_s=1.0))
            jax.block_until_ready(donate(logp))
            assert logp.is_deleted()
    assert sink.series("policy/entropy_mc") == [(0, 1.0), (2, 3.0), (4, 5.0)]


def test_token_statistics_that_come_separately_replace_those_of_the_rollout() -> None:
    """With an `update`, the policy family is of its rows, everything else of the rollout's."""
    update = Rollout(mask=np.ones((2, 5), bool), logp=np.full((2, 5), -2.0))
    (row,) = rows(rollout(), update=update)
    assert row["policy/entropy_mc"] == 2.0
    assert row["completions/length_mean"] == 3.0


def test_histograms_are_logged_when_they_are_due_too() -> None:
    """Of a family that is due at every step, those of every second one; what the loop measured itself too."""
    settings = load({"metrics": {"histograms": {"every": 2}}}).metrics
    sink, measured = MemorySink(), measure(rollout())
    with Logger([sink]) as logger:
        sources = [Source(rollout()), Source(rollout()), Source(measured), Source(measured)]
        for step, source in enumerate(sources):
            MetricsCallback(settings).on_step(StepEvent(step, logger, source))
    key = "rewards/correct/histogram"
    assert [key in record.values for record in sink.records] == [True, False, True, False]
    assert all("rewards/correct/mean" in record.values for record in sink.records)


def test_what_was_due_since_the_last_rollout_is_measured_of_the_next() -> None:
    """Where a generation serves two steps, a family of every ten is not left out for ever; nor after a restart."""
    passed = rollout(entropy=np.full((4, 3), 0.4, np.float32))
    settings, sink = load({"metrics": {"rewards": {"every": 10}, "histograms": {"every": 10}}}).metrics, MemorySink()
    with Observer(Logger([sink]), [MetricsCallback(settings)]) as observer:
        for step in [*range(1, 26), *range(1, 12)]:
            given = rollout() if step % 2 else None
            if step % 3:
                observer.step(step, given, update=passed)
            else:
                observer.ahead(step, given, update=passed)
                observer.step(step)
    for key in ("rewards/correct/mean", "rewards/correct/histogram"):
        assert [step for step, _ in sink.series(key)] == [11, 21, 11]
    assert [step for step, _ in sink.series("policy/entropy_histogram")] == [10, 20, 10]  # an update at every step


def test_times_come_with_the_rollout_that_they_are_compared_with() -> None:
    """Every ten steps, where each second step has a rollout: at the multiple, and with the first rollout behind it."""
    settings, sink = load({"metrics": {"time": {"every": 10}, "throughput": {"every": 10}}}).metrics, MemorySink()
    with Observer(Logger([sink]), [MetricsCallback(settings)]) as observer:
        for step in range(1, 14):
            observer.step(step, rollout() if step % 2 else None)
    assert [step for step, _ in sink.series("time/step_s")] == [10, 11]
    assert [step for step, _ in sink.series("throughput/tokens")] == [11]


def test_a_step_that_trains_on_a_half_of_its_tokens_trains_half_as_many_a_second() -> None:
    """Eight tokens that serve four steps of two passes, trained on in 0.5 s."""
    settings = load({"metrics": {"compute": {"passes": 2, "steps": 4}}}).metrics
    (row,) = rows(rollout(mask=np.ones((4, 2), bool), logp=None, timings={"train_s": 0.5}), settings=settings)
    assert row["throughput/train_tokens_per_s"] == pytest.approx(8.0)


def test_a_rollout_built_later_is_built_and_measured_by_the_worker() -> None:
    """A function is called off the training thread, and gives the same row."""
    assert rows(lambda: rollout())[0]["rewards/correct/mean"] == rows(rollout())[0]["rewards/correct/mean"]


def numbers(record: Record) -> dict[str, float]:
    """What does not hang on the time between the steps."""
    over_the_step = ("time/step_s", "throughput/tokens_per_s", "throughput/completions_per_s")
    values = {key: value for key, value in record.values.items() if isinstance(value, float)}
    return {key: value for key, value in values.items() if key not in over_the_step}


def test_a_step_that_is_measured_ahead_has_the_same_row() -> None:
    """It is built and measured once, before the step ends; what is known only then is in the row too."""
    builds = []

    def built() -> Rollout:
        builds.append(threading.current_thread().name)
        return rollout()

    sink = MemorySink()
    with Logger([sink]) as logger, Observer(logger, [MetricsCallback(Metrics())]) as observer:
        observer.step(0)
        observer.ahead(1, built)
        assert logger.flush()
        assert builds == ["toolkit-logger"]
        observer.step(1, timings={"train_s": 0.5}, values={"loss": 0.5})
        observer.step(2, built, timings={"train_s": 0.5}, values={"loss": 0.5})
    assert len(builds) == 2
    _, ahead, plain = (numbers(record) for record in sink.records)
    assert ahead == plain
    assert (ahead["time/train_s"], ahead["throughput/train_tokens_per_s"]) == (0.5, 24.0)


def test_timings_are_those_of_their_step() -> None:
    """A mapping that the loop fills anew for each step is read at once; what is no number costs its own rate alone."""
    sink, timings = MemorySink(), dict[str, Any]()
    with Logger([sink]) as logger, Observer(logger, [MetricsCallback(Metrics())]) as observer:
        for step, seconds in enumerate((1.0, 2.0, "soon")):
            timings["train_s"] = seconds
            observer.step(step, rollout(), timings=timings, values={"loss": 0.5})
    assert sink.series("throughput/train_tokens_per_s") == [(0, 12.0), (1, 6.0)]
    assert sink.series("trainer/loss") == [(0, 0.5), (1, 0.5), (2, 0.5)]


def test_an_update_that_was_measured_has_all_its_values() -> None:
    """Also at a step where its own family is not due; its timings are the step's."""
    measured = measure(Rollout(mask=np.ones((2, 5), bool), logp=np.full((2, 5), -2.0)))
    timed = Rollout(mask=np.ones((2, 5), bool), logp=np.full((2, 5), -2.0), timings={"train_s": 0.5})
    sink = MemorySink()
    with Logger([sink]) as logger, Observer(logger, [MetricsCallback(SETTINGS)]) as observer:
        observer.step(1, rollout(), update=measured)
        observer.step(2, rollout())
        observer.step(3, rollout(), update=timed)
    assert sink.series("policy/entropy_mc") == [(1, 2.0), (2, 0.5)]
    assert sink.series("time/train_s") == [(3, 0.5)]


def test_what_is_wrong_is_said_once_ahead(caplog: pytest.LogCaptureFixture) -> None:
    """A rollout that cannot be measured ahead is not tried again for the row."""
    bad = rollout(rewards={"correct": [1.0]})
    sink = MemorySink()
    with Logger([sink]) as logger, Observer(logger, [MetricsCallback(Metrics())]) as observer:
        observer.ahead(1, lambda: bad)
        observer.step(1, values={"loss": 0.5})
    assert logger.health.bad_values == 1
    assert "rewards['correct'] has 1 rows, but mask has 4" in caplog.text
    assert sink.series("trainer/loss") == [(1, 0.5)]


def test_a_wrong_rollout_costs_only_its_metrics(caplog: pytest.LogCaptureFixture) -> None:
    """Rewards of the wrong length, now or built later, are named; the loop's own scalars are logged all the same."""
    bad = rollout(rewards={"correct": [1.0]})
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        found = rows(bad, lambda: bad, rollout())
    assert [row["trainer/loss"] for row in found] == [0.5, 0.5, 0.5]
    assert "rewards/correct/mean" not in found[0]
    assert "rewards/correct/mean" in found[2]
    assert any("rewards['correct'] has 1 rows, but mask has 4" in message for message in caplog.messages)


def test_a_text_process_that_is_gone_costs_only_what_it_judges() -> None:
    """The numbers of the step stand in its row all the same."""
    settings = load({"metrics": {"text": {"every": 1}}}).metrics
    text, sink = TextMetrics(settings), MemorySink()
    text.close()
    with Logger([sink]) as logger:
        MetricsCallback(settings, text).on_step(StepEvent(0, logger, Source(rollout(completions=["a"] * 4))))
    (record,) = sink.records
    assert record.values["rewards/correct/coverage"] == 0.75
    assert "completions/distinct_1" not in record.values


def test_what_cannot_be_measured_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The families that lack fields are listed once in the log, each with the fields."""
    with caplog.at_level(logging.INFO, logger="toolkit"):
        rows(rollout(), rollout())
    said = [message for message in caplog.messages if "lacks fields" in message]
    assert len(said) == 1
    assert "advantages (no advantages)" in said[0]
    assert "sampler (no sampler_logp)" in said[0]


def test_what_is_due_later_is_said_when_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """The families of every second step are listed at the second one, and those before not again."""
    callback = MetricsCallback(load({"metrics": {"text": {"every": 2}}}).metrics)
    with caplog.at_level(logging.INFO, logger="toolkit"), Logger([]) as logger:
        for step in (1, 2, 3, 4):
            callback.on_step(StepEvent(step, logger, Source(rollout())))
    said = [message for message in caplog.messages if "lacks fields" in message]
    assert ["text (no completions)" in message for message in said] == [False, True]
    assert ["advantages (no advantages)" in message for message in said] == [True, False]


def test_a_loops_own_value_that_changes_in_place_is_logged_as_it_was() -> None:
    """A running loss of NumPy keeps the value of its step, though the worker reads it later."""
    sink, callback, total = MemorySink(), MetricsCallback(SETTINGS), np.zeros(())
    with Logger([sink]) as logger:
        for step in range(3):
            total += 1
            callback.on_step(StepEvent(step, logger, values={"loss": total}))
    assert sink.series("trainer/loss") == [(0, 1.0), (1, 2.0), (2, 3.0)]


def test_a_step_without_a_rollout_logs_the_hosts_scalars() -> None:
    """A step that reuses an older rollout has a row all the same."""
    (row,) = rows(None)
    assert row == {"time/step_s": 2.0, "trainer/loss": 0.5}
