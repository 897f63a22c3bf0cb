"""Statistics of each token: the logprob of the one that was taken, the exact entropy, the exact KL to a reference.

`logprobs` and `entropy` may be trained through. `token_statistics` is for observing: no gradient flows through it, and
it never needs a second array of the logits' size; `token_statistics_from_hidden` does not even need the first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_BLOCKS, _BLOCKS_OF_HEAD, _SMALLEST_BLOCK = 96, 192, 128
"""Into how many blocks logits and a head fall, which keeps what a block needs at a few per cent; none is narrower."""

_STEPS = 8
"""Time steps of logits at a time: fewer make blocks that lie together in memory, which a CPU reads faster."""

_Start = int | Int[Array, ""]

_Columns = Callable[[_Start, int], Float[Array, "*shape block"]]
"""The logits of part of the vocabulary, by its first token and its size."""


def logprobs(logits: Float[Array, "*shape vocabulary"], tokens: Int[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log pi(token), in nats."""
    shifted = _shifted(logits)
    taken = jnp.take_along_axis(shifted, tokens[..., None], axis=-1)[..., 0]
    return taken - jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))


def entropy(logits: Float[Array, "*shape vocabulary"]) -> Float[Array, "*shape"]:
    """-sum pi log pi, in nats; a logit of -inf is a token that cannot be taken and adds nothing."""
    shifted = _shifted(logits)
    weight = jnp.exp(shifted)
    # 0 * -inf is NaN, while the limit of p log p is 0.
    weighted = jnp.where(weight > 0, weight * shifted, 0.0)
    total = jnp.sum(weight, axis=-1)
    return jnp.log(total) - jnp.sum(weighted, axis=-1) / total


def _shifted(logits: Float[Array, "*shape vocabulary"]) -> Float[Array, "*shape vocabulary"]:
    """The logits less the largest: large ones would cancel with few digits left. It has no part in the gradient."""
    logits = logits.astype(jnp.float32)
    return logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class TokenStatistics:
    """What is known of each token, in nats and float32; NaN where all logits are -inf or one is NaN or +inf.

    - `logp`: log pi(token); also NaN for a token outside the vocabulary, such as a padding of -100.
    - `entropy`: -sum pi log pi.
    - `kl`: sum pi (log pi - log pi_ref), +inf where the reference rules out a token that the policy may take; None
      without a reference. Rounding may leave one of 0 some 1e-6 below it.
    """

    logp: Float[Array, "*shape"]
    entropy: Float[Array, "*shape"]
    kl: Float[Array, "*shape"] | None


def token_statistics(
    logits: Float[Array, "*batch time vocabulary"],
    tokens: Int[Array, "*batch time"],
    reference: Float[Array, "*batch time vocabulary"] | None = None,
) -> TokenStatistics:
    """The statistics of each token under the policy's logits, and with the reference's logits also the KL to it.

    A logit of -inf is a token that cannot be taken. Every axis but time and vocabulary may be sharded.
    """
    policies = [policy for policy in (logits, reference) if policy is not None]
    time, vocabulary = logits.shape[-2:]
    empty = jnp.zeros_like(tokens, jnp.float32)
    nothing = TokenStatistics(empty, empty, None if reference is None else empty)
    if not time:
        return nothing
    steps = min(_STEPS, time)
    blocks = -(-_BLOCKS * steps // time)

    def add(number: Int[Array, ""], done: TokenStatistics) -> TokenStatistics:
        # The last steps may overlap those before: they are then found again.
        start = jnp.minimum(number * steps, time - steps)
        taken = jax.lax.dynamic_slice_in_dim(tokens, start, steps, axis=-1)
        found = _statistics([_columns(policy, start, steps) for policy in policies], vocabulary, blocks, taken)
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=-1)
        more: TokenStatistics = jax.tree.map(put, done, found)
        return more

    statistics: TokenStatistics = jax.lax.fori_loop(0, -(-time // steps), add, nothing)
    return statistics


def token_statistics_from_hidden(
    hidden: Float[Array, "*shape width"],
    head: Float[Array, "width vocabulary"],
    tokens: Int[Array, "*shape"],
    reference: tuple[Float[Array, "*shape reference_width"], Float[Array, "reference_width vocabulary"]] | None = None,
) -> TokenStatistics:
    """`token_statistics` of the logits hidden @ head, which never exist as a whole.

    `hidden` is what the output head is applied to, so after the last norm; `reference` is the same pair of the
    reference. Products are accumulated in float32, at JAX's matmul precision. Every axis of `hidden` but the width may
    be sharded.
    """
    policies = [(hidden, head)] if reference is None else [(hidden, head), reference]
    return _statistics([_projected(*policy) for policy in policies], head.shape[-1], _BLOCKS_OF_HEAD, tokens)


def _statistics(
    policies: list[_Columns], vocabulary: int, blocks: int, tokens: Int[Array, "*shape"]
) -> TokenStatistics:
    """The statistics from sums over blocks of the vocabulary."""
    size = min(vocabulary, max(_SMALLEST_BLOCK, -(-vocabulary // blocks)))
    rest = (vocabulary - 1) % size + 1

    def block(first: _Start, size: int) -> _Sums:
        return _sums([columns(first, size).astype(jnp.float32) for columns in policies], tokens - first)

    def add(number: Int[Array, ""], sums: _Sums) -> _Sums:
        return _merged(sums, block(rest + number * size, size))

    tokens = tokens.astype(jnp.int32)
    sums = jax.lax.fori_loop(0, (vocabulary - rest) // size, add, block(0, rest))
    within = (tokens >= 0) & (tokens < vocabulary)
    return _from_sums(replace(sums, taken=jnp.where(within, sums.taken, jnp.nan)))


def _columns(array: Float[Array, "*batch rows vocabulary"], start: _Start, rows: int) -> _Columns:
    """The columns of some rows of an array."""
    array, batch = jax.lax.stop_gradient(array), array.shape[:-2]

    def columns(first: _Start, size: int) -> Float[Array, "*batch some block"]:
        # XLA for CPUs would convert 16-bit arrays to float32 as a whole, before the loop, were they the same all along.
        # JAX leaves it without annotations:
        whole, row, column = jax.lax.optimization_barrier((array, start, first))  # type: ignore[no-untyped-call]
        return jax.lax.dynamic_slice(whole, (*[0] * len(batch), row, column), (*batch, rows, size))

    return columns


def _projected(hidden: Float[Array, "*shape width"], head: Float[Array, "width vocabulary"]) -> _Columns:
    """The columns of hidden @ head."""
    kind = hidden.dtype if hidden.dtype == head.dtype else jnp.float32
    hidden, head_columns = jax.lax.stop_gradient(hidden).astype(kind), _columns(head, 0, head.shape[0])

    def columns(first: _Start, size: int) -> Float[Array, "*shape block"]:
        return jnp.matmul(hidden, head_columns(first, size).astype(kind), preferred_element_type=jnp.float32)

    return columns


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over part of the vocabulary, with weights exp(logit - peak); those of two parts can be merged.

    Tuples are of the policy, and of the reference where there is one. The moments are of the policy's weight times its
    own logarithm, and of the same weight times the logarithm of the ratio to the reference's.
    """

    peaks: tuple[Float[Array, "*shape"], ...]
    weights: tuple[Float[Array, "*shape"], ...]
    moments: tuple[Float[Array, "*shape"], ...]
    taken: Float[Array, "*shape"]


def _peak(logits: Float[Array, "*shape vocabulary"]) -> Float[Array, "*shape"]:
    """The largest logit, and a finite one where all are -inf: -inf less -inf would be NaN."""
    return jnp.maximum(jnp.max(logits, axis=-1), float(np.finfo(np.float32).min))


def _sums(logits: list[Float[Array, "*shape block"]], places: Int[Array, "*shape"]) -> _Sums:
    peaks = tuple(_peak(x) for x in logits)
    log_weight, *log_references = (x - peak[..., None] for x, peak in zip(logits, peaks, strict=True))
    weight = jnp.exp(log_weight)
    possible = log_weight > -jnp.inf
    averaged = [log_weight, *(log_weight - log_reference for log_reference in log_references)]
    return _Sums(
        peaks=peaks,
        weights=tuple(jnp.sum(x, axis=-1) for x in (weight, *map(jnp.exp, log_references))),
        # 0 * -inf is NaN, while the limit of p log p is 0.
        moments=tuple(jnp.sum(jnp.where(possible, weight * x, 0.0), axis=-1) for x in averaged),
        taken=_taken(logits[0], places),
    )


def _taken(logits: Float[Array, "*shape block"], places: Int[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The logit at each place, 0 where that is in another block."""
    inside = jnp.clip(places, 0, logits.shape[-1] - 1)
    return jnp.where(inside == places, jnp.take_along_axis(logits, inside[..., None], axis=-1)[..., 0], 0.0)


def _merged(one: _Sums, other: _Sums) -> _Sums:
    peaks = jax.tree.map(jnp.maximum, one.peaks, other.peaks)
    sums: _Sums = jax.tree.map(jnp.add, _moved(one, peaks), _moved(other, peaks))
    return replace(sums, peaks=peaks)


def _moved(sums: _Sums, peaks: tuple[Float[Array, "*shape"], ...]) -> _Sums:
    """The same sums relative to other peaks."""
    shifts = jax.tree.map(jnp.subtract, sums.peaks, peaks)
    weights = jax.tree.map(lambda weight, shift: weight * jnp.exp(shift), sums.weights, shifts)
    averaged = (shifts[0], *(shifts[0] - shift for shift in shifts[1:]))
    moments = jax.tree.map(lambda moment, x: moment * jnp.exp(shifts[0]) + weights[0] * x, sums.moments, averaged)
    return _Sums(peaks, weights, moments, sums.taken)


def _from_sums(sums: _Sums) -> TokenStatistics:
    """The division comes last."""
    log_total, *log_reference_totals = (jnp.log(weight) for weight in sums.weights)
    surprise, *gaps = (moment / sums.weights[0] for moment in sums.moments)
    logp = sums.taken - sums.peaks[0] - log_total
    kl = None
    for gap, log_reference_total in zip(gaps, log_reference_totals, strict=True):
        kl = gap - log_total + log_reference_total
        # A weight that underflowed to 0 times the infinite gap to a reference of 0.
        kl = jnp.where(jnp.isnan(gap) & jnp.isfinite(log_total + log_reference_total), jnp.inf, kl)
    return TokenStatistics(logp, log_total - surprise, kl)
