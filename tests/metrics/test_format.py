"""Format: the batched scan over bytes against Python's own `re` and `find`, string by string."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.metrics.format import format_metrics
from toolkit.rollout import utf8

TAGS = ("reasoning", "answer")
ROWS, BYTES = 300, 256
Tags = tuple[str, ...]


@partial(jax.jit, static_argnums=2)
def of_each_row(text: jax.Array, length: jax.Array, tags: Tags) -> dict[str, jax.Array]:
    """The family over each completion alone."""
    rows = jnp.eye(len(text), dtype=bool)
    return jax.vmap(lambda row: format_metrics(text, length, row, tags))(rows)


def measured(texts: list[str], tags: Tags = TAGS) -> dict[str, np.ndarray]:
    """Each metric of each completion, without the family's prefix; at one shape, so that few compile."""
    text, length = utf8([*texts, *[""] * (ROWS - len(texts))])
    wide = np.pad(text, ((0, 0), (0, BYTES - text.shape[1])))
    found = of_each_row(jnp.asarray(wide), jnp.asarray(length), tags)
    return {key.removeprefix("format/"): np.asarray(value)[: len(texts)] for key, value in found.items()}


def reference(completion: str, tags: Tags) -> dict[str, float]:
    """The family over one completion by `re` and `find` over its bytes."""
    text = completion.encode()
    opening = {tag: text.find(f"<{tag}>".encode()) for tag in tags}
    closing = {tag: text.find(f"</{tag}>".encode()) for tag in tags}
    inside = {tag: text[opening[tag] + len(tag) + 2 : closing[tag]] for tag in tags}
    present = {tag: opening[tag] >= 0 <= closing[tag] for tag in tags}
    formed = {tag: present[tag] and opening[tag] + len(tag) + 2 <= closing[tag] for tag in tags}
    ends = [closing[tag] + len(tag) + 3 for tag in tags]
    in_order = all(formed.values()) and all(end <= opening[tag] for end, tag in zip(ends[:-1], tags[1:], strict=True))
    whole = rb"\s*".join(f"<{tag}>(.*?)</{tag}>".encode() for tag in tags)
    match = re.fullmatch(rb"\s*" + whole + rb"\s*", text, re.DOTALL)
    once = all(text.count(f"<{tag}>".encode()) == text.count(f"</{tag}>".encode()) == 1 for tag in tags)
    expected: dict[str, float] = {
        "strict": match is not None and once and all(re.search(rb"\S", content) for content in match.groups()),
        "soft": in_order and all(re.search(rb"\S", inside[tag]) for tag in tags),
        "ordered": in_order,
    }
    for tag in tags:
        expected |= {f"{tag}_present": present[tag], f"{tag}_bytes": len(inside[tag]) if formed[tag] else np.nan}
    if set(tags) >= set(TAGS):
        both = formed["reasoning"] and formed["answer"] and len(inside["answer"]) > 0
        expected["reasoning_to_answer"] = len(inside["reasoning"]) / len(inside["answer"]) if both else np.nan
    return expected


def generated(seed: int, tags: Tags) -> list[str]:
    """Well-formed completions with up to three things done to them."""
    random = np.random.default_rng(seed)
    white = ["", "", " ", "\n", "\t\r\n", "\v\f"]
    contents = ["4", "x = 1 < 2", "é", "日本語", "🙂", " ", "", "<b>4</b>", "\u00a0", "multi\nline", "</", "<"]
    tag_pieces = [
        piece for tag in tags for piece in (f"<{tag}>", f"</{tag}>", f"<{tag}", f"{tag}>", f"<{tag.upper()}>")
    ]

    def one() -> str:
        pieces = [str(random.choice(white))]
        for tag in tags:
            pieces += [f"<{tag}>", str(random.choice(contents)), f"</{tag}>", str(random.choice(white))]
        for _ in range(random.choice([0, 0, 1, 2, 3])):
            place, other = random.integers(len(pieces), size=2)
            match random.integers(6):
                case 0:
                    pieces[place] = ""
                case 1:
                    pieces.insert(place, pieces[other])
                case 2:
                    pieces[place], pieces[other] = pieces[other], pieces[place]
                case 3:
                    pieces.insert(place, str(random.choice(contents)))
                case 4:
                    pieces.insert(place, str(random.choice(tag_pieces)))
                case 5:
                    text = "".join(pieces)
                    pieces = [text[: -1 - int(random.integers(4))]]
        return "".join(pieces)

    return [one() for _ in range(ROWS)]


@pytest.mark.parametrize("tags", [TAGS, ("answer",), ("plan", "reasoning", "answer"), ("a", "ab", "a-b")], ids="~".join)
@pytest.mark.parametrize("seed", range(2))
def test_the_scan_agrees_with_re_on_every_string(seed: int, tags: Tags) -> None:
    """Missing, repeated, swapped, nested, cut and prefixing tags; empty contents; white space and text outside."""
    texts = generated(seed, tags)
    found = measured(texts, tags)
    expected = [reference(text, tags) for text in texts]
    assert found.keys() == expected[0].keys()
    for key, values in found.items():
        for text, value, row in zip(texts, values, expected, strict=True):
            np.testing.assert_allclose(value, row[key], rtol=1e-6, err_msg=f"{key} of {text!r}")
    for key in ("strict", "soft", "ordered"):
        assert 0.05 < found[key].mean() < 0.95  # else the strings would tell nothing


# The completion; whether it is strict, soft, ordered.
BY_HAND = {
    "<reasoning>a</reasoning><answer>4</answer>": (1, 1, 1),
    "\n <reasoning>a</reasoning>\n\n<answer>4</answer>\t\n": (1, 1, 1),
    "<reasoning>日本語 🙂</reasoning><answer>é</answer>": (1, 1, 1),
    "<reasoning>a</reasoning>so<answer>4</answer>": (0, 1, 1),
    "First: <reasoning>a</reasoning><answer>4</answer>": (0, 1, 1),
    "<reasoning>a</reasoning><answer>4</answer>.": (0, 1, 1),
    "<reasoning>a</reasoning><answer>4</answer><answer>5</answer>": (0, 1, 1),
    "<reasoning>a</reasoning><answer>4</answer></answer>": (0, 1, 1),
    "<reasoning>a</reasoning><answer></answer>": (0, 0, 1),
    "<reasoning> \n</reasoning><answer>4</answer>": (0, 0, 1),
    "<answer>4</answer><reasoning>a</reasoning>": (0, 0, 0),
    "<reasoning>a<answer>4</answer></reasoning>": (0, 0, 0),
    "<reasoning>a<answer></reasoning>4</answer>": (0, 0, 0),
    "</reasoning>a<reasoning><answer>4</answer>": (0, 0, 0),
    "<reasoning>a</reasoning><answer>4": (0, 0, 0),
    "<reasoning>a</reasoning><answer>4</answer": (0, 0, 0),
    "<reasoning>a</reasoning><Answer>4</Answer>": (0, 0, 0),
    "< reasoning>a</reasoning><answer>4</answer>": (0, 0, 0),
    "no tags at all": (0, 0, 0),
    "": (0, 0, 0),
}


def test_formats_by_hand() -> None:
    """What each of the three words means."""
    found = measured(list(BY_HAND))
    for text, *values in zip(BY_HAND, found["strict"], found["soft"], found["ordered"], strict=True):
        assert tuple(values) == BY_HAND[text], text


def test_presence_and_sizes_by_hand() -> None:
    """Sizes are in bytes of UTF-8; a ratio needs both sections."""
    found = measured(["<reasoning>日本</reasoning> <answer>é4</answer>", "<reasoning>abc</reasoning>"])
    np.testing.assert_array_equal(found["reasoning_present"], [1, 1])
    np.testing.assert_array_equal(found["answer_present"], [1, 0])
    np.testing.assert_array_equal(found["reasoning_bytes"], [6, 3])
    np.testing.assert_array_equal(found["answer_bytes"], [3, np.nan])
    np.testing.assert_array_equal(found["reasoning_to_answer"], [2, np.nan])


def test_tags_longer_than_the_text_are_not_there() -> None:
    """A buffer of 16 bytes cannot hold a tag of 40, and its end is no match for the start of one."""
    tag = "t" * 40
    text, length = (jnp.asarray(array) for array in utf8(["short", f"<{tag}"[:16], ""]))
    assert text.shape == (3, 16)
    found = of_each_row(text, length, (tag,))
    for key in ("format/strict", "format/ordered", f"format/{tag}_present"):
        assert not found[key].any()


def test_what_lies_past_the_end_changes_nothing() -> None:
    """Bytes after the length are padding, whatever they hold."""
    whole = "<reasoning>a</reasoning><answer>4</answer>"
    text, length = utf8([whole + "<answer>5</answer>", whole + "</answer>", whole + " and so on"])
    shorter = jnp.full_like(jnp.asarray(length), len(whole))
    np.testing.assert_array_equal(of_each_row(jnp.asarray(text), shorter, TAGS)["format/strict"], 1)


def test_shares_are_over_the_rows() -> None:
    """Padded rows count for nothing, no rows have no value, and the ratio is one of sums."""
    texts = ["<reasoning>ab</reasoning><answer>4</answer>", "<reasoning>abcd</reasoning><answer>56</answer>", "", ""]
    text, length = (jnp.asarray(array) for array in utf8(texts))
    found = format_metrics(text, length, jnp.array([True, True, True, False]), TAGS)
    assert float(found["format/strict"]) == pytest.approx(2 / 3)
    assert float(found["format/reasoning_bytes"]) == 3
    assert float(found["format/reasoning_to_answer"]) == 2
    nothing = format_metrics(text, length, jnp.zeros(4, bool), TAGS)
    assert all(np.isnan(value) for value in nothing.values()), nothing
