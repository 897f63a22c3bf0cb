"""Where tags stand in text: one batched scan over the bytes, then a closer look at a few of them.

The scan notes for each block of 32 bytes whether a tag of each kind is in it, and whether anything but white space is.
It is one elementwise pass that a compiler turns into vector instructions, without a loop over time or completions.
Only the block of each first tag, and those at the ends of a section, are then read again for the very byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, UInt, UInt8

Bytes: TypeAlias = UInt8[Array, "batch bytes"]
Blocks: TypeAlias = UInt[Array, "batch blocks"]
PerTag: TypeAlias = Bool[Array, "batch tags"]
Places: TypeAlias = Int[Array, "batch tags"]

# On a CPU XLA splits a reduction over more than 32 in two, and writes out all that it reduces in between.
BLOCK = 32
# A name is looked for once, and what is before it, "<" or "</", says which tag it is.
_BEFORE = 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class TagPairs:
    """The first opening and the first closing tag of each pair: where they start and end, in bytes.

    `present` says that both are there (else the places mean nothing), `once` that both are there exactly once.
    """

    start: Places
    content_start: Places
    content_end: Places
    end: Places
    present: PerTag
    once: PerTag


def block_marks(text: Bytes, tags: tuple[str, ...]) -> Blocks:
    """What stands in each block of bytes: bit 0 for anything but white space, then two for the tags of each pair.

    At most 15 tags, the bits of an integer.
    """
    size, after = text.shape[1], _after(tags)
    # Only the blocks at the ends are padded: to pad all of the text costs as much as to scan it.
    middle = max(1, (size - after) // BLOCK)
    edges = (0, 1, middle, -(-size // BLOCK))
    parts = []
    for first, last in pairwise(edges):
        if first < last:
            low, high = first * BLOCK - _BEFORE, last * BLOCK + after
            part = jnp.pad(text[:, max(low, 0) : high], ((0, 0), (max(-low, 0), max(high - size, 0))))
            marks = _marks(part, tags).reshape(len(text), last - first, BLOCK)
            parts.append(lax.reduce(marks, marks.dtype.type(0), lax.bitwise_or, (2,)))
    return jnp.concatenate(parts, axis=1)


def tag_pairs(text: Bytes, blocks: Blocks, tags: tuple[str, ...]) -> TagPairs:
    """Where each pair of tags stands. `blocks` are the text's `block_marks`."""
    bit = jnp.asarray([2 << tag for tag in range(2 * len(tags))], blocks.dtype)[None, :, None]
    marked = (blocks[:, None, :] & bit) > 0
    first = _first(marked, jnp.arange(blocks.shape[1])[None, None, :], blocks.shape[1])
    start, window = _windows(text, first * BLOCK - _BEFORE, _BEFORE + BLOCK + _after(tags))
    padded = jnp.pad(window, ((0, 0), (0, 0), (_BEFORE, _after(tags))))
    inside = (_marks(padded, tags) & bit) > 0
    name = _first(inside, start[:, :, None] + jnp.arange(inside.shape[2])[None, None, :], text.shape[1])
    present = first < blocks.shape[1]
    once = (marked.sum(axis=2) == 1) & (inside.sum(axis=2) == 1)
    opening, closing = name[:, ::2], name[:, 1::2]
    size = jnp.array([len(_named(tag)) for tag in tags])[None, :]
    return TagPairs(
        start=opening - len("<"),
        content_start=opening + size,
        content_end=closing - len("</"),
        end=closing + size,
        present=present[:, ::2] & present[:, 1::2],
        once=once[:, ::2] & once[:, 1::2],
    )


def solid_between(text: Bytes, blocks: Blocks, low: Places, high: Places) -> PerTag:
    """Whether anything but white space stands at low <= byte < high."""
    start = (jnp.arange(blocks.shape[1]) * BLOCK)[None, None, :]
    whole = (start >= low[:, :, None]) & (start + BLOCK <= high[:, :, None])
    found = (whole & ((blocks & 1) > 0)[:, None, :]).any(axis=2)
    # What is left lies within a block of either end.
    for end in (low, high - BLOCK):
        first, window = _windows(text, end, BLOCK)
        place = first[:, :, None] + jnp.arange(window.shape[2])[None, None, :]
        found |= (_solid(window) & (place >= low[:, :, None]) & (place < high[:, :, None])).any(axis=2)
    return found


def _marks(text: UInt8[Array, "*batch padded"], tags: tuple[str, ...]) -> UInt[Array, "*batch bytes"]:
    """The bits of each byte, from text with the bytes before and after that a name there needs."""
    size = text.shape[-1] - _BEFORE - _after(tags)

    def at(offset: int) -> UInt8[Array, "*batch bytes"]:
        return text[..., _BEFORE + offset : _BEFORE + offset + size]

    number = np.min_scalar_type(1 << 2 * len(tags)).type
    opens, closes = at(-1) == ord("<"), (at(-1) == ord("/")) & (at(-2) == ord("<"))
    marks = _solid(at(0)).astype(number)
    for index, tag in enumerate(tags):
        first, *rest = _named(tag)
        named = at(0) == first
        for offset, letter in enumerate(rest, start=1):
            named &= at(offset) == letter
        # One choice within the other, as XLA's code for a CPU is then faster than with two.
        bit = jnp.where(opens, number(2 << 2 * index), jnp.where(closes, number(4 << 2 * index), number(0)))
        marks |= jnp.where(named, bit, number(0))
    return marks


def _solid(text: UInt8[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """Whether a byte is anything but the white space of ASCII."""
    return (text != ord(" ")) & ((text < ord("\t")) | (text > ord("\r")))


def _named(tag: str) -> bytes:
    """What the opening and the closing tag have in common."""
    return f"{tag}>".encode()


def _after(tags: tuple[str, ...]) -> int:
    """How many bytes after its first one a name needs."""
    return max(len(_named(tag)) for tag in tags) - 1


def _first(found: Bool[Array, "batch tags size"], place: Int[Array, "... size"], missing: int) -> Places:
    # Not argmax, which takes three times as long on a CPU.
    return jnp.min(jnp.where(found, place, missing), axis=2)


def _windows(text: Bytes, start: Places, size: int) -> tuple[Places, UInt8[Array, "batch tags window"]]:
    """`size` bytes of the text from each start, moved to where they lie within the text: the start, and the bytes."""
    size = min(size, text.shape[1])
    start = jnp.clip(start, 0, text.shape[1] - size)

    def one(row: UInt8[Array, " bytes"], first: Int[Array, ""]) -> UInt8[Array, " window"]:
        return lax.dynamic_slice(row, (first,), (size,))

    return start, jax.vmap(jax.vmap(one, in_axes=(None, 0)))(text, start)
