"""Token statistics from logits, for a loop that has them: the logprob of the taken token, and the exact entropy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


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
