"""What the writers of the warm-up write."""

from itertools import islice

import numpy as np
import pytest

from toolkit.demo import example
from toolkit.demo.reward import correct, format
from toolkit.demo.task import Problem, training_problems
from toolkit.demo.tokenizer import COMPLETION_LENGTH, decode, encode, encode_completions

PROBLEM = Problem(36, 49)


def rng() -> np.random.Generator:
    """The same random numbers for every test."""
    return np.random.default_rng(0)


def test_a_good_example_shows_its_work() -> None:
    """The columns are summed from the right and the carry is added to the tens."""
    assert example.good(PROBLEM, rng()) == "<reasoning>6+9=15,3+4+1=8</reasoning><answer>85</answer>"


def test_every_good_example_earns_both_rewards_and_fits() -> None:
    """Good examples are right, well formed, and leave room for the end token."""
    problems = training_problems()
    completions = [example.good(problem, rng()) for problem in problems]
    references = [problem.reference for problem in problems]
    assert all(correct([], completions, references))
    assert all(format([], completions, references))
    assert max(len(encode(completion)) for completion in completions) < COMPLETION_LENGTH


def test_guesses_mostly_forget_the_carry() -> None:
    """A lazy answer to 36+49 is usually 75, and 85 about one time in five."""
    generator = rng()
    answers = [example.lazy(PROBLEM, generator) for _ in range(500)]
    right = answers.count("<reasoning>so </reasoning><answer>85</answer>")
    assert 60 < right < 140
    assert answers.count("<reasoning>so </reasoning><answer>75</answer>") == 500 - right


def test_untagged_examples_have_no_tags() -> None:
    """A bare answer is two digits."""
    assert example.untagged(PROBLEM, rng()) in ("75", "85")


def test_easy_sums_are_mostly_answered_without_tags() -> None:
    """In the mixed part, sums of small numbers are written worse than the others."""
    generator = rng()
    easy = [example.mixed(Problem(11, 12), generator) for _ in range(300)]
    hard = [example.mixed(Problem(31, 12), generator) for _ in range(300)]
    assert sum("<" not in text for text in easy) > 150 > 100 > sum("<" not in text for text in hard)


@pytest.mark.parametrize("writer", [example.worked, example.mixed])
def test_every_example_is_in_the_vocabulary(writer: example.Writer) -> None:
    """What the writers write can be encoded; only verbose examples may be cut."""
    generator = rng()
    texts = [writer(problem, generator) for problem in islice(training_problems(), 500)]
    for text, row in zip(texts, encode_completions(texts).tolist(), strict=True):
        assert text.startswith(decode(row))
