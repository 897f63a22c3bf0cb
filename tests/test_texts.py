"""The format family over the texts of a step: how they are encoded, padded and put together."""

import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.compilation import compilations
from toolkit.rollout import Rollout
from toolkit.settings.metrics import FormatFamily
from toolkit.texts import measure_format, utf8

WHOLE, BROKEN = "<reasoning>ab</reasoning><answer>4</answer>", "<answer>é</answer>"


def test_the_format_of_a_step_is_that_of_all_its_parts() -> None:
    """Two micro-batches of one and two completions: shares over three, sizes over those that have them."""
    parts = [Rollout(completions=[WHOLE]), Rollout(completions=[BROKEN, WHOLE])]
    found = measure_format(parts, FormatFamily()).values()
    assert found["format/strict"] == pytest.approx(2 / 3)
    assert found["format/answer_present"] == 1
    assert found["format/answer_bytes"] == pytest.approx((1 + 2 + 1) / 3)
    assert found["format/reasoning_to_answer_bytes"] == pytest.approx(4 / 2)
    assert found["format/cut_fraction"] == 0


def test_sizes_are_in_tokens_where_their_offsets_are_known() -> None:
    """Two tokens start in the reasoning and one in the answer; also with arrays on a device."""
    offsets, mask = np.array([[0, 11, 12, 25, 33, 34]]), np.array([[1, 1, 1, 1, 1, 0]], bool)
    for array in (np.asarray, jnp.asarray):
        rollout = Rollout(completions=[WHOLE], offsets=array(offsets), mask=array(mask))
        found = measure_format([rollout], FormatFamily()).values()
        assert found["format/reasoning_tokens"] == 2
        assert found["format/answer_tokens"] == 1
        assert found["format/reasoning_to_answer"] == 2
        assert "format/reasoning_bytes" not in found


def test_batches_and_lengths_that_change_compile_three_times() -> None:
    """200 random batches of 1 to 256 completions of 1 to 1,024 bytes."""
    random, before = np.random.default_rng(0), compilations()
    for _ in range(200):
        batch, length = random.integers(1, 257), random.integers(1, 1025)
        found = measure_format([Rollout(completions=["x" * int(length)] * int(batch))], FormatFamily()).values()
        assert found["format/strict"] == 0
    assert compilations() - before <= 3


def test_one_huge_completion_is_cut_and_counted() -> None:
    """Ten megabytes among short ones cost no more than the limit, and both ends are looked at."""
    huge = f"<reasoning>{'x' * 10_000_000}</reasoning><answer>4</answer>"
    found = measure_format([Rollout(completions=[huge, WHOLE, "", "\ud800"])], FormatFamily(max_bytes=2048)).values()
    assert found["format/strict"] == 0.5
    assert found["format/cut_fraction"] == 0.25
    assert found["format/reasoning_bytes"] == pytest.approx((10_000_000 + 2) / 2)


def test_texts_become_utf8_and_what_is_no_unicode_a_question_mark() -> None:
    """Rows of bytes with their lengths; a lone surrogate raises nothing."""
    texts = ["plain", "日本語🙂", "", "a\ud800b", "nul\0"]
    rows, lengths = utf8(texts, narrowest=16)
    assert rows.shape == (5, 16)
    decoded = [row[:length].tobytes().decode() for row, length in zip(rows, lengths, strict=True)]
    assert decoded == ["plain", "日本語🙂", "", "a?b", "nul\0"]
    assert not any(row[length:].any() for row, length in zip(rows, lengths, strict=True))
    assert utf8(["x" * 17], narrowest=16)[0].shape == (1, 32)
    assert utf8([])[0].shape == (0, 256)


@pytest.mark.parametrize("letter", ["x", "é"])
def test_the_middle_of_a_long_text_is_cut_out(letter: str) -> None:
    """Its row has as many bytes as are allowed, a zero marks the place, and its length stays that of the text."""
    texts = ["ab" + letter * 10_000 + "cd", "e" * 64, "f" * 65, ""]
    rows, lengths = utf8(texts, most=64, narrowest=16)
    assert lengths.tolist() == [len(text.encode()) for text in texts]
    assert rows.shape == (4, 64)
    assert rows[0].tobytes() == texts[0].encode()[:32] + b"\0" + texts[0].encode()[-31:]
    assert rows[1].tobytes() == texts[1].encode()
    assert rows[2].tobytes() == b"f" * 32 + b"\0" + b"f" * 31
    assert not rows[3].any()
