"""`format/`: whether completions keep to their tags, as one batched scan over their UTF-8 bytes.

A tag is matched at every byte of every completion at once by comparing shifted copies of the bytes, so there is no
loop over time and none over completions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from toolkit.metrics import reduction

Bytes: TypeAlias = UInt8[Array, "batch bytes"]
PerRow: TypeAlias = Bool[Array, " batch"]


def format_metrics(
    text: Bytes, length: Int[Array, " batch"], rows: Bool[Array, " batch"], tags: tuple[str, ...]
) -> dict[str, Array]:
    """Every metric of the family, by key. `text` is padded UTF-8, `length` its bytes, `tags` the expected order.

    `strict`: each tag pair exactly once, in order, each with content, nothing but white space outside. `soft`: the
    pairs in order and each with content, whatever else there is. `ordered`: the tags in order. `TAG_present`: both
    the opening and the closing tag. Where a tag repeats, the first one counts.
    """
    sections = [_section(text, length, tag) for tag in tags]
    blank = _blank(text, length)
    in_order = _in_order(sections)
    filled = jnp.stack([_filled(section, blank) for section in sections]).all(axis=0)
    once = jnp.stack([section.once for section in sections]).all(axis=0)
    metrics = {
        "format/strict": reduction.share(in_order & filled & once & _nothing_outside(sections, blank), rows),
        "format/soft": reduction.share(in_order & filled, rows),
        "format/ordered": reduction.share(in_order, rows),
    }
    for tag, section in zip(tags, sections, strict=True):
        metrics[f"format/{tag}_present"] = reduction.share(section.present, rows)
        metrics[f"format/{tag}_bytes"] = reduction.mean(section.size, rows & section.well_formed)
    if set(tags) >= {"reasoning", "answer"}:
        metrics["format/reasoning_to_answer"] = _size_ratio(dict(zip(tags, sections, strict=True)), rows)
    return metrics


@dataclass(frozen=True)
class _Section:
    """Where a tag pair stands: its outer start and end and its content's, in bytes."""

    start: Int[Array, " batch"]
    content_start: Int[Array, " batch"]
    content_end: Int[Array, " batch"]
    end: Int[Array, " batch"]
    present: PerRow
    once: PerRow

    @property
    def well_formed(self) -> PerRow:
        return self.present & (self.content_start <= self.content_end)

    @property
    def size(self) -> Float[Array, " batch"]:
        return (self.content_end - self.content_start).astype(jnp.float32)


def _section(text: Bytes, length: Int[Array, " batch"], tag: str) -> _Section:
    opening, closing = f"<{tag}>".encode(), f"</{tag}>".encode()
    opens, closes = _matches(text, length, opening), _matches(text, length, closing)
    start, content_end = jnp.argmax(opens, axis=1), jnp.argmax(closes, axis=1)
    return _Section(
        start=start,
        content_start=start + len(opening),
        content_end=content_end,
        end=content_end + len(closing),
        present=opens.any(axis=1) & closes.any(axis=1),
        once=(opens.sum(axis=1) == 1) & (closes.sum(axis=1) == 1),
    )


def _matches(text: Bytes, length: Int[Array, " batch"], word: bytes) -> Bool[Array, "batch bytes"]:
    """Whether `word` starts at each byte."""
    size = text.shape[1]
    padded = jnp.pad(text, ((0, 0), (0, len(word))))
    found = _places(text) + len(word) <= length[:, None]
    for offset, letter in enumerate(word):
        found &= padded[:, offset : offset + size] == letter
    return found


def _blank(text: Bytes, length: Int[Array, " batch"]) -> Bool[Array, "batch bytes"]:
    """White space of ASCII, and everything past the end."""
    white = (text == ord(" ")) | ((text >= ord("\t")) & (text <= ord("\r")))
    return white | (_places(text) >= length[:, None])


def _places(text: Bytes | Bool[Array, "batch bytes"]) -> Int[Array, "1 bytes"]:
    return jnp.arange(text.shape[1])[None, :]


def _in_order(sections: list[_Section]) -> PerRow:
    order = sections[0].well_formed
    for before, after in pairwise(sections):
        order &= after.well_formed & (before.end <= after.start)
    return order


def _filled(section: _Section, blank: Bool[Array, "batch bytes"]) -> PerRow:
    place = _places(blank)
    inside = (place >= section.content_start[:, None]) & (place < section.content_end[:, None])
    return (inside & ~blank).any(axis=1)


def _nothing_outside(sections: list[_Section], blank: Bool[Array, "batch bytes"]) -> PerRow:
    place = _places(blank)
    covered = blank
    for section in sections:
        covered |= (place >= section.start[:, None]) & (place < section.end[:, None])
    return covered.all(axis=1)


def _size_ratio(sections: dict[str, _Section], rows: PerRow) -> Float[Array, ""]:
    """Bytes of reasoning for each byte of answer, over the completions that have both: a ratio of sums."""
    reasoning, answer = sections["reasoning"], sections["answer"]
    both = rows & reasoning.well_formed & answer.well_formed
    answered = reduction.total(answer.size, both)
    return jnp.where(answered > 0, reduction.total(reasoning.size, both) / answered, jnp.nan)
