"""The policy network: a small decoder that reads tokens and predicts the next one."""

from __future__ import annotations

from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from toolkit.demo.tokenizer import COMPLETION_LENGTH, PROMPT_LENGTH, TOKENS

LENGTH = PROMPT_LENGTH + COMPLETION_LENGTH

# The keys and values of one layer, of every position up to `LENGTH`.
LayerCache: TypeAlias = tuple[Float[Array, "batch length heads head"], Float[Array, "batch length heads head"]]
Cache: TypeAlias = tuple[LayerCache, ...]


class Attention(nnx.Module):
    """Causal self-attention, over the tokens given or over a cache of earlier ones."""

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.project_in = nnx.Linear(width, 3 * width, use_bias=False, rngs=rngs)
        self.project_out = nnx.Linear(width, width, use_bias=False, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch time width"], cache: LayerCache | None, start: int | Int[Array, ""]
    ) -> tuple[Float[Array, "batch time width"], LayerCache]:
        """What each token gathers from the visible ones, and all keys and values; see `Decoder.__call__`."""
        batch, time, width = x.shape
        qkv = self.project_in(x).reshape(batch, time, 3, self.heads, width // self.heads)
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        if cache is not None:
            key = jax.lax.dynamic_update_slice_in_dim(cache[0], key, start, axis=1)
            value = jax.lax.dynamic_update_slice_in_dim(cache[1], value, start, axis=1)
        visible = jnp.arange(key.shape[1])[None, :] <= start + jnp.arange(time)[:, None]
        mixed = _attend(query, key, value, visible)
        return self.project_out(mixed.reshape(batch, time, width)), (key, value)


def _attend(
    query: Float[Array, "batch time heads head"],
    key: Float[Array, "batch length heads head"],
    value: Float[Array, "batch length heads head"],
    visible: Bool[Array, "time length"],
) -> Float[Array, "batch time heads head"]:
    scores = jnp.einsum("bthd,blhd->bhtl", query, key) / query.shape[-1] ** 0.5
    weights = jax.nn.softmax(scores, axis=-1, where=visible[None, None])
    return jnp.einsum("bhtl,blhd->bthd", weights, value)


class Block(nnx.Module):
    """Attention and a feed-forward network, each on a normalised input and added to it."""

    def __init__(self, width: int, heads: int, feed_forward: int, *, rngs: nnx.Rngs) -> None:
        self.attention_norm = nnx.RMSNorm(width, rngs=rngs)
        self.attention = Attention(width, heads, rngs=rngs)
        self.feed_forward_norm = nnx.RMSNorm(width, rngs=rngs)
        self.expand = nnx.Linear(width, feed_forward, rngs=rngs)
        self.contract = nnx.Linear(feed_forward, width, rngs=rngs)

    def __call__(
        self, x: Float[Array, "batch time width"], cache: LayerCache | None, start: int | Int[Array, ""]
    ) -> tuple[Float[Array, "batch time width"], LayerCache]:
        """The next layer's input and this layer's keys and values; see `Decoder.__call__`."""
        attended, cache = self.attention(self.attention_norm(x), cache, start)
        x = x + attended
        return x + self.contract(nnx.relu(self.expand(self.feed_forward_norm(x)))), cache


class Decoder(nnx.Module):
    """A decoder-only transformer with learned positions. It computes in the type of its parameters."""

    def __init__(
        self, *, layers: int = 2, width: int = 64, heads: int = 4, feed_forward: int = 192, rngs: nnx.Rngs
    ) -> None:
        self.width, self.heads = width, heads
        self.tokens = nnx.Embed(len(TOKENS), width, rngs=rngs)
        self.positions = nnx.Embed(LENGTH, width, rngs=rngs)
        self.blocks = nnx.List(Block(width, heads, feed_forward, rngs=rngs) for _ in range(layers))
        self.norm = nnx.RMSNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, len(TOKENS), use_bias=False, rngs=rngs)

    def __call__(
        self, tokens: Int[Array, "batch time"], cache: Cache | None = None, start: int | Int[Array, ""] = 0
    ) -> tuple[Float[Array, "batch time vocabulary"], Cache]:
        """The next-token logits after each of `tokens`, and the cache with these tokens in it.

        With a `cache` the tokens stand at the positions from `start` on and also see those before; without
        one they are the whole text and `start` stays 0.
        """
        x = self.tokens(tokens) + self.positions(start + jnp.arange(tokens.shape[1]))[None]
        # An Embed answers in the type it was built with, even when its table was cast since.
        x = x.astype(self.head.kernel.dtype)
        caches: list[LayerCache] = []
        for layer, block in enumerate(self.blocks):
            x, layer_cache = block(x, cache[layer] if cache is not None else None, start)
            caches.append(layer_cache)
        return self.head(self.norm(x)), tuple(caches)

    def empty_cache(self, batch: int) -> Cache:
        """A cache with room for `LENGTH` tokens of each of `batch` texts."""
        shape = (batch, LENGTH, self.heads, self.width // self.heads)
        empty = jnp.zeros(shape, self.head.kernel.dtype)
        return tuple((empty, empty) for _ in self.blocks)


def completion_logits(
    model: Decoder, prompts: Int[Array, "batch prompt_time"], completions: Int[Array, "batch time"]
) -> Float[Array, "batch time vocabulary"]:
    """The logits from which each token of the completions was, or would be, chosen."""
    logits, _ = model(jnp.concatenate([prompts, completions[:, :-1]], axis=1))
    return logits[:, prompts.shape[1] - 1 :]
