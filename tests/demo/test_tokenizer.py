"""Text to tokens and back."""

import numpy as np
import pytest

from toolkit.demo.tokenizer import (
    COMPLETION_LENGTH,
    END,
    FILLERS,
    PAD,
    decode,
    encode,
    encode_completions,
    encode_prompts,
)


@pytest.mark.parametrize(
    "text",
    [
        "36+49=",
        "<reasoning>6+9=15,3+4+1=8</reasoning><answer>85</answer>",
        "".join(FILLERS) + "12",
        "<answer><answer>",
        "",
    ],
)
def test_text_survives_a_round_trip(text: str) -> None:
    """Decoding what was encoded gives the text back."""
    assert decode(encode(text)) == text


def test_a_tag_is_one_token() -> None:
    """Tags and filler words are single tokens, so they cost as little room as a digit."""
    assert len(encode("<answer>85</answer>")) == 4
    assert len(encode("well so ")) == 2


def test_text_outside_the_vocabulary_is_refused() -> None:
    """An unknown character is an error that shows the text."""
    with pytest.raises(ValueError, match="3-1="):
        encode("3-1=")


def test_prompts_become_rows_of_equal_length() -> None:
    """Every prompt of the task fills exactly one row, and decodes to itself."""
    rows = encode_prompts(["36+49=", "00+07="])
    assert [decode(row) for row in rows.tolist()] == ["36+49=", "00+07="]


def test_a_prompt_of_another_length_is_refused() -> None:
    """A prompt that does not fill its row is an error that names it."""
    with pytest.raises(ValueError, match="'6\\+4='"):
        encode_prompts(["6+4="])


def test_completions_end_and_are_padded() -> None:
    """A completion is followed by one end token and then padding; neither is seen in its text."""
    (row,) = encode_completions(["<answer>85</answer>"]).tolist()
    assert row[4:] == [END] + [PAD] * (COMPLETION_LENGTH - 5)
    assert decode(row) == "<answer>85</answer>"


def test_a_completion_without_room_is_cut() -> None:
    """A completion as long as its row or longer has no end token."""
    rows = encode_completions(["1" * COMPLETION_LENGTH, "2" * (COMPLETION_LENGTH + 5)])
    assert rows.shape == (2, COMPLETION_LENGTH)
    assert not np.any(rows == END)
