"""The sums, and the split that keeps some of them held out."""

import numpy as np
import pytest

from toolkit.demo.task import Problem, draw, heldout_problems, problems, training_problems


def test_a_problem_names_its_question_and_answer() -> None:
    """Numbers and answers have two digits, with a leading zero where needed."""
    problem = Problem(6, 2)
    assert (problem.prompt, problem.reference) == ("06+02=", "08")


def test_no_held_out_problem_is_trained_on_in_either_order() -> None:
    """The halves share no sum, not even with its numbers swapped."""
    training = {(problem.left, problem.right) for problem in training_problems()}
    heldout = {(problem.left, problem.right) for problem in heldout_problems(10_000)}
    assert not training & heldout
    assert not training & {(right, left) for left, right in heldout}
    assert len(training) + len(heldout) == len(problems()) == 2500


def test_a_fifth_is_held_out() -> None:
    """The hash spreads the held-out problems evenly."""
    assert 0.15 < len(heldout_problems(10_000)) / len(problems()) < 0.25


def test_heldout_problems_are_different_and_always_the_same() -> None:
    """A held-out set has no repetition and depends on nothing but its arguments."""
    chosen = heldout_problems(200)
    assert len(set(chosen)) == 200
    assert chosen == heldout_problems(200)
    assert chosen != heldout_problems(200, seed=1)


def test_a_smaller_limit_makes_smaller_sums() -> None:
    """With a limit of 10 both numbers have one digit."""
    assert max(max(problem.left, problem.right) for problem in problems(10)) == 9


@pytest.mark.parametrize("limit", [0, 51])
def test_an_impossible_limit_is_refused(limit: int) -> None:
    """Answers must keep two digits."""
    with pytest.raises(ValueError, match="limit"):
        problems(limit)


def test_a_draw_repeats_no_problem() -> None:
    """The problems of one draw differ, and the same generator draws them again."""
    first = draw(training_problems(), 64, np.random.default_rng(3))
    assert len(set(first)) == 64
    assert first == draw(training_problems(), 64, np.random.default_rng(3))
