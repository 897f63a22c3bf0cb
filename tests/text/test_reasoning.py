"""Reasoning against a reference's steps and against the prompt."""

import math

import pytest

from toolkit.text.reasoning import complete, reasoning, steps, unsupported

PROMPT = "Ducks lay 16 eggs a day. She eats three, bakes with four and sells the rest for $2 each."
SOLUTION = "She sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs.\nShe makes 9 * 2 = $<<9*2=18>>18.\n#### 18"
GOOD = "16 - 3 - 4 = 9 eggs are left.\n9 * 2 = $18"


@pytest.mark.parametrize(
    ("completion", "part"),
    [
        ("<reasoning>a</reasoning><reasoning>b</reasoning><answer>c</answer>", "b"),
        ("a <answer>b</answer>", "a "),
        ("a\n#### 5", "a\n"),
        ("a\nA: 5\n", "a\n"),
        ("a", "a"),
        ("a</reasoning>", "a</reasoning>"),
        ("", ""),
    ],
)
def test_the_reasoning_is_what_stands_before_the_answer(completion: str, part: str) -> None:
    """Its tags say so; without them it ends where the answer begins."""
    assert reasoning(completion) == part


def test_the_steps_of_a_solution_are_the_results_of_its_equations() -> None:
    """An annotation that repeats its equation is no step of its own, and a bare answer has none."""
    assert steps(SOLUTION) == {9, 18}
    assert steps("18") == set()


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        (GOOD, "18", True),
        (GOOD, "$18.00", True),
        ("Nine are left, as 3 + 4 = 7 and 16 - 7 = 9. She makes 18", "18", True),
        (GOOD, "19", False),
        (GOOD, None, False),
        ("9 * 2 = 19, so 18", "18", False),
        ("She makes 18", "18", False),
        (GOOD + "\n3 + 4 = 8", "18", False),
    ],
)
def test_complete_reasoning_has_each_step_no_slip_and_ends_in_its_answer(
    text: str, answer: str | None, expected: bool
) -> None:
    """A missing result, a false equation or another ending each make it incomplete."""
    assert complete(text, answer, SOLUTION) is expected


def test_a_step_that_is_no_whole_number_may_be_rounded() -> None:
    """A hundredth is near enough where the reference's result has decimals, and never where it has none."""
    assert complete("10 / 3 = 3.33", "3.33", "10 / 3 = 3.333")
    assert not complete("10 + 3 = 13\n13.005", "13.005", "10 + 3 = 13\n100 * 3 = 300")


def test_an_answer_in_words_stands_in_the_last_line() -> None:
    """Where the answer is no number, the reasoning ends in it when its last line has it."""
    assert complete("3 > 2\nso Paris wins", "Paris", "Paris")
    assert not complete("Paris\nso Rome", "Paris", "Paris")


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (GOOD, 0.0),
        ("16 * 7 = 112", 0.0 + 1 / 3),
        ("She has 16 eggs and 5 hens.", 0.5),
        ("They need 9 because 16 - 3 - 4 = 9", 0.0),
        ("9 are left.\n16 - 3 - 4 = 9", 0.2),
        ("16 - 3 - 4 = 10", 0.25),
        ("1. 16 eggs\n2. 3 eaten\nStep 3: 4 baked", 0.0),
        ("nothing to say", math.nan),
        ("", math.nan),
    ],
)
def test_a_number_is_supported_by_the_prompt_or_by_a_true_equation(text: str, share: float) -> None:
    """Numbers of the prompt in digits or words, and sides of true equations up to the line, are supported."""
    assert unsupported(text, PROMPT) == pytest.approx(share, nan_ok=True)


@pytest.mark.parametrize("number", ["0.2", "20", "100", "12", "2", "0.5", "25"])
def test_words_and_percentages_of_the_prompt_support_their_numbers(number: str) -> None:
    """A percentage is also its share, and half, twice and dozen are numbers."""
    assert unsupported(number, "twenty-five hens, half a dozen, 20% of them") == 0
