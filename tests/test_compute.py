"""What the training costs in operations and what it brings, all by hand."""

from collections.abc import Mapping

import pytest

from toolkit.compute import ComputeCost
from toolkit.config import load
from toolkit.record import Record, Value
from toolkit.settings.metrics import ComputeFamily

BILLION = ComputeFamily(parameters=1_000_000_000)


def train(step: int, tokens: float | None = 1000.0, time: float = 0.0, **more: float) -> Record:
    """A row of training; keys are written with two underscores for a slash."""
    values: dict[str, Value] = {key.replace("__", "/"): value for key, value in more.items()}
    return Record("train", step, step, time, values if tokens is None else {"throughput/tokens": tokens, **values})


def heldout(time: float, **accuracies: float) -> Record:
    """A validation `time` seconds after the epoch: the accuracy by data set."""
    return Record("heldout", 0, 0, time, {f"heldout/{name}/accuracy": value for name, value in accuracies.items()})


def added(given: Record, processed: Record) -> dict[str, Value]:
    """What a processor added to a record, of which it changed nothing else."""
    assert {key: processed.values[key] for key in given.values} == given.values
    assert (processed.stream, processed.step, processed.time) == (given.stream, given.step, given.time)
    return {key: value for key, value in processed.values.items() if key not in given.values}


def costs(
    settings: ComputeFamily, *records: Record, peak: float | None = None, devices: int = 1
) -> list[dict[str, Value]]:
    """What one processor adds to each of the records."""
    cost = ComputeCost(settings, peak, devices)
    return [added(record, cost(record)) for record in records]


@pytest.mark.parametrize(("passes", "flops"), [(1, 8e12), (4, 26e12)])
def test_operations_follow_from_parameters_and_tokens(passes: int, flops: float) -> None:
    """A billion parameters and a thousand tokens: 2 x 10^12 to generate and 6 x 10^12 for each pass over them."""
    (found,) = costs(BILLION.model_copy(update={"passes": passes}), train(0))
    assert found == {"compute/flops": flops, "compute/flops_total": flops}


def test_steps_that_were_not_logged_count_as_the_next_one() -> None:
    """Steps 0, 1, 5 and 6 with 1, 1, 2 and 1 thousand tokens: 8 x 10^12 times 1 + 1 + 4 x 2 + 1."""
    found = costs(BILLION, train(0), train(1), train(5, 2000.0), train(6))
    assert [row["compute/flops"] for row in found] == [8e12, 8e12, 16e12, 8e12]
    assert [row["compute/flops_total"] for row in found] == [8e12, 16e12, 80e12, 88e12]


def test_a_generation_of_several_steps_counts_once() -> None:
    """Four passes in four steps, 26 x 10^12 for each thousand tokens; 8 x 10^12 in the step that generates them."""
    settings = BILLION.model_copy(update={"passes": 4, "steps": 4})
    found = costs(settings, *(train(step, time__step_s=2.0) for step in (1, 5, 9, 17)), peak=1e13)
    assert [row["compute/flops_total"] for row in found] == [26e12, 52e12, 78e12, 130e12]
    assert found[1]["compute/mfu"] == pytest.approx(8e12 / 2.0 / 1e13)


def test_a_run_that_is_continued_counts_from_where_it_begins() -> None:
    """The first step that is seen is one step, whatever its number."""
    assert [row["compute/flops_total"] for row in costs(BILLION, train(1000), train(1001))] == [8e12, 16e12]


def test_a_second_row_of_a_step_counts_only_if_it_has_tokens() -> None:
    """A loop's own values, or a batch's, stand in rows of their own."""
    found = costs(BILLION, train(0), train(0, None, loss=0.5), train(1, None), train(1))
    assert found[1] == found[2] == {}
    assert found[3]["compute/flops_total"] == 16e12


def test_utilisation_is_operations_by_second_over_the_peak_of_all_devices() -> None:
    """8 x 10^12 operations in 2 s are 4 x 10^12 a second, a fifth of what two devices of 10^13 can do."""
    found = costs(BILLION, train(0), train(1, time__step_s=2.0), train(2, time__step_s=0.0), peak=1e13, devices=2)
    assert ["compute/mfu" in row for row in found] == [False, True, False]
    assert found[1]["compute/mfu"] == pytest.approx(0.2)
    assert "compute/mfu" not in costs(BILLION, train(0, time__step_s=2.0))[0]


def test_reward_for_compute_is_its_rise_since_the_first_step() -> None:
    """From 0.25 to 0.5 within 16 x 10^12 operations, 0.016 PFLOP: 15.625 for a whole one; a fall is negative."""
    rewards = (0.25, 0.5, 0.25, 0.1)
    records = [train(step, rewards__total__moving_average=reward) for step, reward in enumerate(rewards)]
    found = [row["compute/reward_per_pflop"] for row in costs(BILLION, *records)]
    assert found == pytest.approx([0.0, 15.625, 0.0, -0.15 / 0.032])


def test_without_parameters_or_tokens_there_is_nothing_to_tell() -> None:
    """The record is passed on as it is."""
    given: Mapping[str, float] = {"rewards__total__moving_average": 0.5, "time__step_s": 1.0}
    assert costs(ComputeFamily(), train(0, **given), peak=1e12) == [{}]
    assert costs(BILLION, train(0, None, **given), peak=1e12) == [{}]


def test_the_total_has_every_step_though_it_is_logged_on_schedule_only() -> None:
    """Every two steps: three rows of five, and in the last all five steps."""
    settings = load({"metrics": {"compute": {"every": 2, "parameters": 10**9}}}).metrics.compute
    found = costs(settings, *(train(step) for step in range(5)))
    assert [row.get("compute/flops_total") for row in found] == [8e12, None, 24e12, None, 40e12]


def test_accuracy_is_told_by_the_hours_of_all_devices() -> None:
    """Half an hour on four devices are two hours: 0.2 to 0.5 is 0.15 for each; data sets are apart."""
    rows = [heldout(0.0, gsm8k=0.2), heldout(1800.0, gsm8k=0.5, math=0.1), heldout(3600.0, gsm8k=0.4, math=0.3)]
    key = "heldout/{}/accuracy_gain_per_device_hour".format
    first, second, third = costs(ComputeFamily(), *rows, devices=4)
    assert first == {}
    assert second == {key("gsm8k"): pytest.approx(0.15)}
    assert third == {key("gsm8k"): pytest.approx(0.05), key("math"): pytest.approx(0.1)}


def test_other_streams_and_other_scores_pass_unchanged() -> None:
    """What is no row of training or validation is the same object afterwards, and only accuracies have a gain."""
    cost = ComputeCost(BILLION, 1e12, 1)
    system = Record("system", 0, 0, 0.0, {"throughput/tokens": 1000.0})
    assert cost(system) is system
    for time in (0.0, 60.0):
        row = Record("heldout", 0, 0, time, {"heldout/a/format_strict": 0.5, "heldout/a/accuracy_se": 0.1})
        assert added(row, cost(row)) == {}
