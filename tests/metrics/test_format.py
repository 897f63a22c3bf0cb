"""Format: the batched scan over bytes against Python's own `re` and `find`, string by string."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.values import values as finished
from toolkit.metrics.format import Format, completion_format, format_metrics
from toolkit.texts import utf8

TAGS = ("reasoning", "answer")
ROWS, BYTES = 300, 256
Tags = tuple[str, ...]


@partial(jax.jit, static_argnames=("tags", "most"))
def family(*arrays: jax.Array, tags: Tags = TAGS, most: int | None = None) -> dict[str, jax.Array]:
    """The values of the family."""
    text, length, rows, offsets, mask = (*arrays, None, None)[:5]
    assert text is not None
    assert length is not None
    assert rows is not None
    return finished(format_metrics(text, length, rows, tags, offsets, mask, most))


@partial(jax.jit, static_argnums=2)
def of_each_row(text: jax.Array, length: jax.Array, tags: Tags) -> dict[str, jax.Array]:
    """The family over each completion alone."""
    rows = jnp.eye(len(text), dtype=bool)
    return jax.vmap(lambda row: finished(format_metrics(text, length, row, tags)))(rows)


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
        expected["reasoning_to_answer_bytes"] = len(inside["reasoning"]) / len(inside["answer"]) if both else np.nan
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
    np.testing.assert_array_equal(found["reasoning_to_answer_bytes"], [2, np.nan])


def test_tags_longer_than_the_text_are_not_there() -> None:
    """A buffer of 16 bytes cannot hold a tag of 40, and its end is no match for the start of one."""
    tag = "t" * 40
    text, length = (jnp.asarray(array) for array in utf8(["short", f"<{tag}"[:16], ""]))
    found = of_each_row(text[:, :16], length, (tag,))
    for key in ("format/strict", "format/ordered", f"format/{tag}_present"):
        assert not found[key].any()


def test_a_tag_is_found_wherever_it_stands() -> None:
    """At every distance from the start and between the tags, so across every edge of the blocks that are scanned."""
    fill = range(70)
    whole = "<reasoning>{}4{}</reasoning>{}<answer>{}</answer>{}"
    white = [whole.format("", "", " " * size, 4, " " * size) for size in fill]
    inside = [whole.format(" " * size, " " * (70 - size), "", "x" * (size + 1), "") for size in fill]
    before = ["x" * size + whole.format("", "", "", 4, "") for size in fill]
    after = [whole.format("", "", " " * size, 4, " " * (70 - size) + "x") for size in fill]
    found = measured([*white, *inside, *before, *after])
    np.testing.assert_array_equal(found["soft"], 1)
    np.testing.assert_array_equal(found["strict"], [1] * 141 + [0] * 139)
    np.testing.assert_array_equal(found["answer_bytes"], [1] * 70 + [size + 1 for size in fill] + [1] * 140)


# The completion; whether it is strict, soft.
UNUSUAL = {
    "<reasoning>\0</reasoning><answer>4</answer>": (1, 1),
    "\0<reasoning>a</reasoning><answer>4</answer>": (0, 1),
    "<reasoning>a</reasoning><answer>4</answer>\0": (0, 1),
    "<reasoning>\ud800</reasoning><answer>4</answer>": (1, 1),
    "<reasoning>a</reasoning>\u00a0<answer>4</answer>": (0, 1),
    "<reasoning>\u3000</reasoning><answer>\x1f</answer>": (1, 1),
    "<<reasoning>a</reasoning><answer>4</answer>": (0, 1),
    "<reasoning></reasoning></reasoning><answer>4</answer>": (0, 0),
}


def test_unusual_bytes_are_content() -> None:
    """NUL, what is no Unicode, and the white space that only Unicode knows."""
    found = measured(list(UNUSUAL))
    for text, *values in zip(UNUSUAL, found["strict"], found["soft"], strict=True):
        assert tuple(values) == UNUSUAL[text], repr(text)


def test_there_may_be_fifteen_tags_of_any_letters() -> None:
    """More of them than bits in a byte; a letter may take several bytes."""
    tags = tuple(f"é{index}" for index in range(15))
    whole = "".join(f"<{tag}>4</{tag}>" for tag in tags)
    text, length = utf8([whole, whole.replace("é14", "e14"), whole + "<é14>"])
    found = jax.jit(completion_format, static_argnums=2)(jnp.asarray(text), jnp.asarray(length), tags)
    assert found.strict.tolist() == [True, False, False]
    assert found.soft.tolist() == [True, False, True]
    assert found.present.sum(axis=1).tolist() == [15, 14, 15]


def test_shares_are_over_the_rows() -> None:
    """Padded rows count for nothing, no rows have no value, and the ratio is one of sums."""
    texts = ["<reasoning>ab</reasoning><answer>4</answer>", "<reasoning>abcd</reasoning><answer>56</answer>", "", ""]
    text, length = (jnp.asarray(array) for array in utf8(texts))
    found = family(text, length, jnp.array([True, True, True, False]))
    assert float(found["format/strict"]) == pytest.approx(2 / 3)
    assert float(found["format/reasoning_bytes"]) == 3
    assert float(found["format/reasoning_to_answer_bytes"]) == 2
    nothing = family(text, length, jnp.zeros(4, bool))
    assert all(np.isnan(value) for value in nothing.values()), nothing


@partial(jax.jit, static_argnums=2)
def tokens_of_each_row(
    text: jax.Array, length: jax.Array, tags: Tags, offsets: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """The family with sizes in tokens over each completion alone."""
    rows = jnp.eye(len(text), dtype=bool)
    return jax.vmap(lambda row: finished(format_metrics(text, length, row, tags, offsets, mask)))(rows)


def test_sizes_in_tokens_by_hand() -> None:
    """A token belongs to the section in which its first byte lies; the mask says what is a token."""
    texts = ["<reasoning>ab cd</reasoning><answer>é4</answer>", "<answer>4</answer>"]
    text, length = (jnp.asarray(array) for array in utf8(texts))
    # "<reasoning", ">ab", " cd</", "reasoning>", "<answer>", "é", "4", "</answer>"; "<answer>", "4", "</answer>"
    offsets = jnp.array([[0, 10, 13, 18, 28, 36, 38, 39], [0, 8, 9, 0, 0, 0, 0, 8]])
    mask = jnp.array([[True] * 8, [True] * 3 + [False] * 5])
    found = tokens_of_each_row(text, length, TAGS, offsets, mask)
    np.testing.assert_array_equal(found["format/reasoning_tokens"], [1, np.nan])
    np.testing.assert_array_equal(found["format/answer_tokens"], [2, 1])
    np.testing.assert_array_equal(found["format/reasoning_to_answer"], [0.5, np.nan])
    assert not any(key.endswith("_bytes") for key in found)


def test_sizes_in_tokens_agree_with_the_places_of_the_tags() -> None:
    """Texts cut into tokens anywhere between their characters, some of which the mask leaves out."""
    random, texts = np.random.default_rng(0), generated(2, TAGS)
    offsets, mask = np.zeros((ROWS, 64), np.int32), random.random((ROWS, 64)) < 0.8
    for row, text in enumerate(texts):
        ends = np.cumsum([0, *(len(letter.encode()) for letter in text)])[:-1]
        taken = np.sort(random.choice(ends, min(64, len(ends)), replace=False))
        offsets[row, : len(taken)] = taken
        mask[row, len(taken) :] = False
    encoded, length = utf8(texts)
    wide = np.pad(encoded, ((0, 0), (0, BYTES - encoded.shape[1])))
    found = tokens_of_each_row(*map(jnp.asarray, (wide, length)), TAGS, jnp.asarray(offsets), jnp.asarray(mask))
    for row, text in enumerate(texts):
        for tag in TAGS:
            low = text.encode().find(f"<{tag}>".encode()) + len(tag) + 2
            high = text.encode().find(f"</{tag}>".encode())
            formed = len(tag) + 2 <= low <= high
            expected = sum(low <= place < high for place in offsets[row, mask[row]]) if formed else np.nan
            np.testing.assert_equal(float(found[f"format/{tag}_tokens"][row]), expected, err_msg=f"{tag} of {text!r}")


PIECES = st.sampled_from(["<a>", "</a>", "<b>", "</b>", "<a", ">", "/", " ", "\n", "x", "é", "\0"])
# Half of them strict, so that there is something to lose.
TEXT = st.lists(PIECES, max_size=14).map("".join) | st.just("<a>x</a> <b>é</b>")


@jax.jit
def short_format(text: jax.Array, length: jax.Array) -> Format:
    """The format with tags of one letter."""
    return completion_format(text, length, ("a", "b"))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(TEXT, min_size=4, max_size=4))
def test_padding_changes_nothing(texts: list[str]) -> None:
    """Neither more bytes nor more rows change what is found of a completion."""
    encoded, length = utf8(texts)
    narrow = encoded[:, :64]
    wide = np.pad(encoded, ((0, 12), (0, 300 - encoded.shape[1])))
    found = short_format(narrow, length)
    padded = short_format(wide, np.pad(length, (0, 12)))
    for name in ("strict", "soft", "ordered", "present", "well_formed"):
        np.testing.assert_array_equal(getattr(padded, name)[:4], getattr(found, name), err_msg=name)
        assert not getattr(padded, name)[4:].any()
    for name in ("content_start", "content_end"):
        moved = np.asarray(getattr(padded, name)[:4] - getattr(found, name))
        assert not moved[np.asarray(found.well_formed)].any(), name


def test_every_transformation_finds_the_same() -> None:
    """Under jit, under vmap and inside of scan."""
    texts = ["<a>x</a><b>x</b>", "<a>x</a>", " <a>x</a> <b>y</b>z", "", "<b>x</b><a>é</a>", "<a>\n</a><b></b>"]
    text, length = (jnp.asarray(array) for array in utf8(texts))
    expected = jax.tree.leaves(short_format(text, length))
    stacked, lengths = text.reshape(3, 2, -1), length.reshape(3, 2)
    _, scanned = jax.lax.scan(lambda carry, row: (carry, short_format(*row)), None, (stacked, lengths))
    for found in (jax.vmap(short_format)(stacked, lengths), scanned):
        for leaf, value in zip(jax.tree.leaves(found), expected, strict=True):
            np.testing.assert_array_equal(leaf.reshape(value.shape), value)


def test_no_completions_have_no_format() -> None:
    """An empty batch has no value for any key."""
    text, length = (jnp.asarray(array) for array in utf8([]))
    found = family(text, length, jnp.zeros(0, bool))
    assert all(np.isnan(value) for value in found.values())


def test_a_huge_completion_costs_no_more_than_the_limit() -> None:
    """Its middle is cut out of the array, but not out of its sizes; what is seen of it is judged as ever."""
    huge = f"<reasoning>{'x' * 10_000_000}</reasoning><answer>4</answer>"
    text, length = utf8([huge, *["<answer>4</answer>"] * 255], most=1024)
    assert text.shape == (256, 1024)
    rows = jnp.arange(256) == 0
    found = family(jnp.asarray(text), jnp.asarray(length), rows, most=1024)
    assert float(found["format/strict"]) == 1
    assert float(found["format/reasoning_bytes"]) == 10_000_000
    assert float(found["format/answer_bytes"]) == 1
    assert float(found["format/cut_fraction"]) == 1
    everyone = family(jnp.asarray(text), jnp.asarray(length), jnp.ones(256, bool), most=1024)
    assert float(everyone["format/cut_fraction"]) == 1 / 256


def test_tokens_of_a_cut_completion_are_all_counted() -> None:
    """Offsets are those of the whole completion, and so are the places that they are compared with."""
    whole = f"<a>{'x' * 200}</a><b>yz</b>"
    text, length = (jnp.asarray(array) for array in utf8([whole], most=64))
    offsets = jnp.arange(len(whole))[None, :]
    found = family(text, length, jnp.ones(1, bool), offsets, jnp.ones_like(offsets, bool), tags=("a", "b"), most=64)
    assert float(found["format/a_tokens"]) == 200
    assert float(found["format/b_tokens"]) == 2


def test_no_tag_arises_where_the_halves_of_a_cut_completion_meet() -> None:
    """What was cut out counts as content, which is neither a tag nor white space."""
    inside = f"<a>{' ' * 100}</a>"
    outside = f"<a>x</a>{' ' * 100}"
    # The first half ends with "<" and the second begins with "a>" and goes on.
    meeting = " " * 31 + "<" + "x" * 100 + "a>" + "x" * 29
    text, length = (jnp.asarray(array) for array in utf8([inside, outside, meeting], most=64))
    found = jax.jit(completion_format, static_argnums=(2, 3))(text, length, ("a",), 64)
    assert found.soft.tolist() == [True, True, False]
    assert found.strict.tolist() == [True, False, False]
    assert not found.present[2].any()
