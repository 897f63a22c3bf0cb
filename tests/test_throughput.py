"""Rates: the amounts of a step over its seconds, as a whole and by phase."""

import pytest

from toolkit.record import Value
from toolkit.throughput import rates

AMOUNTS: dict[str, Value] = {"throughput/tokens": 600.0, "throughput/completions": 12.0, "throughput/examples": 3.0}


def test_amounts_over_the_step_and_over_each_phase() -> None:
    """600 tokens in 4 s are 150 a second; 2.5 s of them were spent generating and 1.2 s training."""
    timings = {"generation_s": 2.5, "train_s": 1.2, "reward_s": 0.3}
    assert rates(AMOUNTS, 4.0, timings) == pytest.approx(
        {
            **{"throughput/tokens": 600, "throughput/completions": 12, "throughput/examples": 3},
            **{"throughput/tokens_per_s": 150, "throughput/completions_per_s": 3, "throughput/examples_per_s": 0.75},
            **{"throughput/generation_tokens_per_s": 240, "throughput/train_tokens_per_s": 500},
        }
    )


def test_a_step_that_trains_on_a_part_of_a_generation_has_the_rate_of_that_part() -> None:
    """A quarter of 600 tokens in 1.2 s are 125 a second; all of them were generated in 2.5 s."""
    found = rates(AMOUNTS, 4.0, {"generation_s": 2.5, "train_s": 1.2}, passes_a_step=0.25)
    assert found["throughput/train_tokens_per_s"] == pytest.approx(125)
    assert found["throughput/generation_tokens_per_s"] == pytest.approx(240)


def test_what_is_no_amount_stays_as_it_is() -> None:
    """A metric of another family has no rate, and the values that were given are not changed."""
    given: dict[str, Value] = {"rewards/total/mean": 0.5, "throughput/completions": 2.0}
    found = rates(given, 0.5, {"generation_s": 1.0})
    assert found == {"rewards/total/mean": 0.5, "throughput/completions": 2, "throughput/completions_per_s": 4}
    assert given == {"rewards/total/mean": 0.5, "throughput/completions": 2}


@pytest.mark.parametrize("step_s", [None, 0.0])
def test_a_step_of_unknown_length_has_the_rates_of_its_phases_only(step_s: float | None) -> None:
    """The first step has no time, and a clock may not move between two."""
    assert rates(AMOUNTS, step_s, {"train_s": 2.0, "generation_s": 0.0}) == {
        **AMOUNTS,
        "throughput/train_tokens_per_s": 300,
    }
    assert rates(AMOUNTS, step_s) == AMOUNTS
    assert rates({}, step_s) == {}
