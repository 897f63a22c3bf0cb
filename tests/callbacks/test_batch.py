"""Batches of any kind: what is logged of them, when, and what a wrong one costs."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.callbacks import StepEvent
from toolkit.callbacks.batch import BatchCallback, kind, sampled_rows
from toolkit.compilation import compilations
from toolkit.config import load
from toolkit.logger import Logger
from toolkit.record import Table
from toolkit.settings.callbacks import Batch, BatchSamples
from toolkit.sinks.memory import MemorySink

QUIET = Batch(samples=BatchSamples(enabled=False))
BATCH: dict[str, Any] = {
    "episode_returns": np.array([1.0, 2.0, 3.0, 6.0]),
    "similarity": [0.5, 1.0, 1.0, 0.0],
    "solved": np.array([True, False, True, True]),
    "policy_loss": 0.25,
    "note": ["a", "b", "c", "d"],
}


def logged(settings: Batch, batches: Iterable[Mapping[str, Any] | None]) -> MemorySink:
    """What the callback logs of one batch a step."""
    sink, callback = MemorySink(), BatchCallback(settings)
    with Logger([sink], burst_s=0.01) as logger:
        for step, batch in enumerate(batches):
            callback.on_step(StepEvent(step, logger, batch=batch))
    return sink


def values(batch: Mapping[str, Any], settings: Batch = QUIET) -> dict[str, Any]:
    """The aggregates of one batch, without the prefix of the family."""
    (record,) = logged(settings, [batch]).records
    return {key.removeprefix("batch/"): value for key, value in record.values.items()}


def tables(settings: Batch, batches: Iterable[Mapping[str, Any] | None]) -> dict[int, Table]:
    """The samples by step."""
    series = logged(settings, batches).series("samples/batch", "samples")
    return {step: table for step, table in series if isinstance(table, Table)}


def test_arrays_become_aggregates_and_scalars_pass_through() -> None:
    """By hand: 1, 2, 3, 6 have the mean 3 and the variance 3.5; two of four are similar enough, three are true."""
    assert values(BATCH, QUIET.model_copy(update={"success": {"similarity": 1.0, "absent": 0.0}})) == pytest.approx({
        "episode_returns/mean": 3.0,
        "episode_returns/std": np.sqrt(3.5),
        "episode_returns/min": 1.0,
        "episode_returns/max": 6.0,
        "similarity/mean": 0.625,
        "similarity/std": np.sqrt(0.171875),
        "similarity/min": 0.0,
        "similarity/max": 1.0,
        "similarity/success_rate": 0.5,
        "solved/success_rate": 0.75,
        "policy_loss": 0.25,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("switch", "names"),
    [
        ("rewards", ["episode_returns", "Reward", "env/reward"]),
        ("similarity", ["similarity", "cosine_similarity"]),
        ("losses", ["policy_loss", "LossTotal"]),
        ("gradient_norms", ["grad_norm", "gradient_norms"]),
        ("other", ["entropy", "steps", ""]),
    ],
)
def test_each_switch_is_for_the_names_that_speak_of_it(switch: str, names: list[str]) -> None:
    """Switched off, those names are not logged, and all others are."""
    rest = {"return": 1.0, "similarity": 1.0, "loss": 1.0, "grad": 1.0, "length": 1.0}
    assert {kind(name) for name in names} == {switch}
    others = {name: value for name, value in rest.items() if kind(name) != switch}
    assert len(others) == 4
    batch = others | dict.fromkeys(names, 2.0)
    assert values(batch, QUIET.model_copy(update={switch: False})) == others
    assert values(batch).keys() == batch.keys()


def test_aggregates_and_samples_have_schedules_of_their_own() -> None:
    """Every two steps and every three of seven; a step without a batch has neither."""
    settings = Batch(every=2, samples=BatchSamples(every=3))
    sink = logged(settings, [BATCH] * 7)
    assert [step for step, _ in sink.series("batch/policy_loss")] == [0, 2, 4, 6]
    assert [step for step, _ in sink.series("samples/batch", "samples")] == [0, 3, 6]
    assert logged(settings, [None] * 7).records == []


def test_switched_off_nothing_is_logged() -> None:
    """`batch: false` is for all of it: the samples too."""
    assert logged(load({"batch": False}).batch, [BATCH]).records == []


def test_a_sample_has_each_column_of_its_rows_as_they_are() -> None:
    """Numbers, bools and texts stand beside the number of the row; scalars are no columns."""
    (table,) = tables(Batch(samples=BatchSamples(rows=4)), [BATCH]).values()
    assert table.columns == ("row", "episode_returns", "similarity", "solved", "note")
    assert table.rows == [
        (0, 1.0, 0.5, True, "a"),
        (1, 2.0, 1.0, False, "b"),
        (2, 3.0, 1.0, True, "c"),
        (3, 6.0, 0.0, True, "d"),
    ]


def test_the_step_alone_decides_which_rows_are_drawn() -> None:
    """The same step draws the same rows, in order and each once, and another step others; all where there are less."""
    settings = Batch(samples=BatchSamples(every=1, rows=3))
    batch = {"place": np.arange(50.0)}
    first, again = (tables(settings, [batch] * 8) for _ in range(2))
    assert {step: table.rows for step, table in first.items()} == {step: table.rows for step, table in again.items()}
    drawn = {step: sampled_rows(50, 3, step) for step in range(8)}
    assert {step: [row[0] for row in table.rows] for step, table in first.items()} == drawn
    assert all(len(set(rows)) == 3 and rows == sorted(rows) for rows in drawn.values())
    assert len({tuple(rows) for rows in drawn.values()}) == 8
    assert all(row[0] == row[1] for table in first.values() for row in table.rows)
    assert sampled_rows(2, 3, 5) == sampled_rows(2, 2, 5) == [0, 1]
    assert sampled_rows(0, 3, 5) == []


def test_every_row_is_drawn_as_often_as_any_other() -> None:
    """Over a thousand steps three rows of ten come 300 times each, within five standard deviations."""
    drawn = np.concatenate([sampled_rows(10, 3, step) for step in range(1000)])
    assert np.abs(np.bincount(drawn, minlength=10) - 300).max() < 5 * np.sqrt(1000 * 0.3 * 0.7)


def test_arrays_may_be_donated_or_written_over_right_after_the_step() -> None:
    """On the device or on the host, each step keeps its own values, though the worker reads them later."""
    sink, callback = MemorySink(), BatchCallback(QUIET)
    donate, on_host = jax.jit(lambda x: x * 0, donate_argnums=0), np.zeros(4)
    with Logger([sink]) as logger:
        for step in range(3):
            on_device, on_host[:] = jnp.full(4, float(step)), step
            batch = {"device": on_device, "host": on_host, "loss": (loss := jnp.full((), 10.0 * step))}
            callback.on_step(StepEvent(step, logger, batch=batch))
            jax.block_until_ready((donate(on_device), donate(loss)))
            assert on_device.is_deleted()
            on_host[:] = -1
    expected = [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert sink.series("batch/device/mean") == sink.series("batch/host/mean") == expected
    assert sink.series("batch/loss") == [(0, 0.0), (1, 10.0), (2, 20.0)]


@pytest.mark.parametrize(
    "returns",
    [
        [1, 2, 3, 6],
        (1.0, 2.0, 3.0, 6.0),
        np.array([1, 2, 3, 6], np.int64),
        np.array([1, 2, 3, 6], np.float16),
        jnp.array([1, 2, 3, 6], jnp.int32),
        jnp.array([1, 2, 3, 6], jnp.float32),
        jnp.array([1, 2, 3, 6], jnp.bfloat16),
    ],
    ids=lambda returns: str(getattr(returns, "dtype", type(returns).__name__)),
)
def test_numbers_of_any_kind_give_the_same(returns: Any) -> None:
    """Lists, tuples, and arrays of NumPy and of JAX in any precision, with a threshold and as samples."""
    settings = Batch(success={"returns": 2.5}, samples=BatchSamples(rows=2))
    sink = logged(settings, [{"returns": returns}])
    found = {key: value for record in sink.records for key, value in record.values.items()}
    (_, table), *_ = sink.series("samples/batch", "samples")
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows] == [
        float(np.asarray(returns, np.float32)[row]) for row in sampled_rows(4, 2, 0)
    ]
    assert found["batch/returns/mean"] == 3.0
    assert found["batch/returns/success_rate"] == 0.5


def test_large_counts_stay_what_they_are() -> None:
    """Whole numbers beyond 32 bits do not wrap round."""
    found = values({"steps": np.array([2**33, 2**34])})
    assert (found["steps/min"], found["steps/max"]) == (2.0**33, 2.0**34)


def test_what_is_not_finite_is_left_out() -> None:
    """NaN among the entries counts nowhere, and an array of nothing else has no keys."""
    found = values({"a": np.array([1.0, np.nan, 3.0, np.inf]), "b": np.full(4, np.nan), "c": np.float32(2.0)})
    assert found == pytest.approx({"a/mean": 2.0, "a/std": 1.0, "a/min": 1.0, "a/max": 3.0, "c": 2.0})


@pytest.mark.parametrize("batch", [{}, {"returns": np.zeros(0), "solved": np.zeros(0, bool)}, {"loss": 1.0}])
def test_an_empty_batch_is_no_trouble(batch: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing at all, no rows, or scalars only: no table, no aggregate, and no warning."""
    sink = logged(Batch(), [batch])
    keys = {key for record in sink.records for key in record.values}
    assert keys == {f"batch/{name}" for name in batch if name == "loss"}
    assert caplog.messages == []


@pytest.mark.parametrize("wrong", [np.zeros((4, 2)), [["a"], ["b"]], [1.0, "x", 2.0, 3.0], np.array(["a", "b"])])
def test_an_array_of_a_wrong_shape_or_type_is_named_once_and_costs_itself(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Every other entry of the batch is logged at every step, and so are its samples."""
    batch = {"wrong": wrong, "returns": np.array([1.0, 2.0, 3.0, 6.0]), "loss": 0.5}
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        sink = logged(Batch(samples=BatchSamples(every=1)), [batch] * 3)
    assert sink.series("batch/returns/mean") == [(0, 3.0), (1, 3.0), (2, 3.0)]
    assert sink.series("batch/loss") == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert len(sink.series("samples/batch", "samples")) == 3
    (said,) = caplog.messages
    assert "batch['wrong']" in said


def test_arrays_of_different_lengths_are_named_once_and_cost_no_scalar(caplog: pytest.LogCaptureFixture) -> None:
    """A sample of rows needs one length: the warning names both, and what is no array is logged all the same."""
    batch = {"returns": np.zeros(4), "similarity": np.zeros(3), "loss": 0.5}
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        sink = logged(Batch(samples=BatchSamples(every=1)), [batch] * 3)
    assert sink.series("batch/loss") == [(0, 0.5), (1, 0.5), (2, 0.5)]
    (said,) = caplog.messages
    assert "'returns': 4" in said
    assert "'similarity': 3" in said


def test_batches_of_changing_size_share_few_compilations() -> None:
    """Any size up to 256 is one of three, whatever the type that a loop has at hand; the values are NumPy's."""
    random, before = np.random.default_rng(0), compilations()
    batches: list[dict[str, Any]] = [
        {"a": random.normal(size=size), "b": random.random(size) < 0.5} for size in (1, 5, 16, 17, 60, 64, 65, 256)
    ]
    batches += [{name: jnp.asarray(array) for name, array in batch.items()} for batch in batches[:3]]
    sink = logged(QUIET, batches)
    assert compilations() - before <= 3
    means = [value for _, value in sink.series("batch/a/mean")]
    assert means == pytest.approx([float(batch["a"].mean()) for batch in batches], rel=1e-5, abs=1e-6)
