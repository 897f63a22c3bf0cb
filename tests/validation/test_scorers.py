"""Correctness and format of held-out completions."""

import pytest

from toolkit.validation.scorers import correctness, strict_format


@pytest.mark.parametrize(
    ("completion", "reference", "score"),
    [
        ("<answer>85</answer>", "85", 1.0),
        ("<answer> 085.0 </answer>", "85", 1.0),
        ("<answer>1,200</answer>", "1200", 1.0),
        ("<answer>12</answer><answer>85</answer>", "85", 1.0),
        ("<answer>58</answer>", "85", 0.0),
        ("85", "85", 0.0),
        ("so \\boxed{85}", "6 + 79 = 85\n#### 85", 1.0),
        ("<answer>85 dollars</answer>", "$85.00", 1.0),
        ("<answer></answer>", "85", 0.0),
        ("<answer></answer>", "", 0.0),
        ("<answer>\nParis\n</answer>", "Paris", 1.0),
        ("<answer>nan</answer>", "nan", 0.0),
    ],
)
def test_an_answer_is_right_when_it_is_the_reference(completion: str, reference: str, score: float) -> None:
    """The final answer counts; numbers compare as numbers, other answers as text; no answer is wrong."""
    assert correctness(["?"], [completion], [reference]) == [score]


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("<reasoning>a</reasoning><answer>b</answer>", 1.0),
        (" <reasoning>\na\n</reasoning>\n<answer>b</answer>\n", 1.0),
        ("<reasoning></reasoning><answer>b</answer>", 0.0),
        ("<reasoning>a</reasoning>so<answer>b</answer>", 0.0),
        ("<answer>b</answer><reasoning>a</reasoning>", 0.0),
        ("<reasoning>a</reasoning><answer>b</answer><answer>b</answer>", 0.0),
        ("<reasoning>a</reasoning><answer>b", 0.0),
        ("", 0.0),
    ],
)
def test_strict_format_wants_each_pair_once_in_order_and_nothing_else(completion: str, score: float) -> None:
    """The scorer judges as the metric `format/strict` does."""
    assert strict_format(("reasoning", "answer"))(["?"], [completion], ["?"]) == [score]
