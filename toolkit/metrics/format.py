"""`format/`: whether completions keep to their tags, and how much stands in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit.metrics import reduction, statistic
from toolkit.metrics.statistic import Mean, Statistic
from toolkit.metrics.tags import Bytes, Places, TagPairs, block_marks, solid_between, tag_pairs

PerRow: TypeAlias = Bool[Array, " batch"]
Lengths: TypeAlias = Int[Array, " batch"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Format:
    """The format of each completion, and the place of each tag pair's content.

    `strict`: each pair exactly once, in order, each with content, nothing but white space outside. `soft`: the pairs
    in order and each with content, whatever else there is. `ordered`: the pairs in order. `present`: both tags of the
    pair; `well_formed`: the closing one after the opening one. The content is `content_start` <= byte < `content_end`
    of the whole completion, and means something only where the pair is well formed. Where a tag repeats, the first
    one counts. White space is that of ASCII; content is anything else.
    """

    strict: Bool[Array, "*leading batch"]
    soft: Bool[Array, "*leading batch"]
    ordered: Bool[Array, "*leading batch"]
    present: Bool[Array, "*leading batch tags"]
    well_formed: Bool[Array, "*leading batch tags"]
    content_start: Int[Array, "*leading batch tags"]
    content_end: Int[Array, "*leading batch tags"]


def format_metrics(
    text: Bytes,
    length: Lengths,
    rows: PerRow,
    tags: tuple[str, ...],
    offsets: Int[Array, "batch time"] | None = None,
    mask: Bool[Array, "batch time"] | None = None,
    most: int | None = None,
) -> dict[str, Statistic]:
    """Every metric of the family, by key; `text`, `length` and `most` as in `completion_format`.

    Sizes are in tokens, and their keys say so, where `offsets` has the byte of the completion at which each token
    starts and `mask` keeps the completion's tokens; otherwise they are in bytes.
    """
    found = completion_format(text, length, tags, most)
    sizes = _bytes(found)
    unit, ratio = "bytes", "format/reasoning_to_answer_bytes"
    if offsets is not None and mask is not None:
        sizes = _tokens(found, offsets, mask)
        unit, ratio = "tokens", "format/reasoning_to_answer"
    metrics: dict[str, Statistic] = {
        "format/strict": statistic.share(found.strict, rows),
        "format/soft": statistic.share(found.soft, rows),
        "format/ordered": statistic.share(found.ordered, rows),
    }
    for index, tag in enumerate(tags):
        metrics[f"format/{tag}_present"] = statistic.share(found.present[:, index], rows)
        metrics[f"format/{tag}_{unit}"] = statistic.mean(sizes[:, index], rows & found.well_formed[:, index])
    if set(tags) >= {"reasoning", "answer"}:
        pair = jnp.array([tags.index("reasoning"), tags.index("answer")])
        metrics[ratio] = _ratio(sizes[:, pair], rows & found.well_formed[:, pair].all(axis=1))
    if most is not None:
        metrics["format/cut_fraction"] = statistic.share(length > most, rows)
    return metrics


def completion_format(text: Bytes, length: Lengths, tags: tuple[str, ...], most: int | None = None) -> Format:
    """The format of each completion by one scan over `text`, its UTF-8 with zeros past the end (`toolkit.texts.utf8`).

    `length` is the bytes of each completion and `tags`, 15 at most, their expected order. With `most`, a completion
    longer than that is in `text` with its middle cut out: it is judged by what is left.
    """
    kept = length if most is None else jnp.minimum(length, most)
    blocks = block_marks(text, tags)
    pairs = tag_pairs(text, blocks, tags)
    well_formed = pairs.present & (pairs.content_start <= pairs.content_end)
    in_order = well_formed.all(axis=1) & (pairs.end[:, :-1] <= pairs.start[:, 1:]).all(axis=1)
    filled = solid_between(text, blocks, pairs.content_start, pairs.content_end).all(axis=1)
    outside = solid_between(text, blocks, *_outside(pairs, kept)).any(axis=1)
    soft = in_order & filled
    return Format(
        strict=soft & pairs.once.all(axis=1) & ~outside,
        soft=soft,
        ordered=in_order,
        present=pairs.present,
        well_formed=well_formed,
        content_start=_in_completion(pairs.content_start, length, kept),
        content_end=_in_completion(pairs.content_end, length, kept),
    )


def _outside(pairs: TagPairs, length: Lengths) -> tuple[Places, Places]:
    """Where the text before, between and after the pairs starts and ends, when they are in order."""
    low = jnp.pad(pairs.end, ((0, 0), (1, 0)))
    return low, jnp.concatenate([pairs.start, length[:, None]], axis=1)


def _in_completion(place: Places, length: Lengths, kept: Lengths) -> Places:
    """A place in the text as one in the completion, whose middle may have been cut out."""
    return place + jnp.where(place > kept[:, None] // 2, (length - kept)[:, None], 0)


def _bytes(found: Format) -> Float[Array, "batch tags"]:
    return (found.content_end - found.content_start).astype(jnp.float32)


def _tokens(
    found: Format, offsets: Int[Array, "batch time"], mask: Bool[Array, "batch time"]
) -> Float[Array, "batch tags"]:
    """How many of the mask's tokens start in the content of each pair."""
    place = offsets[:, None, :]
    inside = (place >= found.content_start[:, :, None]) & (place < found.content_end[:, :, None])
    return jnp.sum(inside & mask[:, None, :], axis=2, dtype=jnp.float32)


def _ratio(sizes: Float[Array, "batch 2"], rows: PerRow) -> Mean:
    """Size of the reasoning for each unit of answer, over the completions that have both: a ratio of sums."""
    reasoning, answer = reduction.total(sizes[:, 0], rows), reduction.total(sizes[:, 1], rows)
    return Mean(reasoning, answer)
