"""The reward functions on texts written by hand."""

import pytest

from toolkit.demo.reward import REWARDS, WEIGHTS, brevity, correct, format
from toolkit.demo.tokenizer import COMPLETION_LENGTH


@pytest.mark.parametrize(
    ("completion", "is_correct", "is_well_formed"),
    [
        ("<reasoning>6+9=15,3+4+1=8</reasoning><answer>85</answer>", 1, 1),
        ("<reasoning>so </reasoning><answer>75</answer>", 0, 1),
        ("<answer>85</answer>", 1, 0),
        ("<reasoning>so </reasoning><answer>085</answer>", 1, 1),
        ("<reasoning></reasoning><answer>85</answer>", 1, 0),
        ("<reasoning>so </reasoning><answer>85</answer><answer>75</answer>", 0, 0),
        ("<reasoning>so </reasoning><answer>85</answer>so ", 1, 0),
        ("<reasoning><answer></reasoning><answer>85</answer>", 1, 0),
        ("<reasoning>so </reasoning><answer></answer>", 0, 0),
        ("85", 0, 0),
        ("", 0, 0),
    ],
)
def test_correct_and_format_by_hand(completion: str, is_correct: float, is_well_formed: float) -> None:
    """Correctness asks for one right answer in its tags, format for exactly the two tagged parts."""
    assert correct(["36+49="], [completion], ["85"]) == [is_correct]
    assert format(["36+49="], [completion], ["85"]) == [is_well_formed]


def test_brevity_falls_by_the_same_amount_for_every_token() -> None:
    """An empty completion earns 1, a full one 0, and a tag costs as much as a digit."""
    texts = ["", "<answer>85</answer>", "1" * COMPLETION_LENGTH]
    assert brevity([""] * 3, texts, [""] * 3) == [1.0, 1 - 4 / COMPLETION_LENGTH, 0.0]


def test_rewards_answer_row_by_row() -> None:
    """Each function gives one reward a completion, in order."""
    completions = ["<reasoning>so </reasoning><answer>85</answer>", "85", "<answer>03</answer>"]
    rewards = {name: reward([""] * 3, completions, ["85", "85", "3"]) for name, reward in REWARDS.items()}
    assert rewards["correct"] == [1, 0, 1]
    assert rewards["format"] == [1, 0, 0]
    assert set(rewards) == set(WEIGHTS)
