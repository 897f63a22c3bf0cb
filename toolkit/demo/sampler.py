"""Drawing completions: the sampler of the rollouts, and the policy that a validation asks.

The sampler computes in bfloat16 where the trainer computes in float32, as inference engines do, so their
logprobs differ a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key

from toolkit.demo.model import Cache, Decoder
from toolkit.demo.tokenizer import COMPLETION_LENGTH, END, PAD, PROMPT_LENGTH, decode, encode_prompts
from toolkit.validation.policy import FunctionPolicy

Params: TypeAlias = nnx.State[Any, Any]

# Between two tokens: logits of the next one, cache, its position, and which completions have not ended.
_Carry: TypeAlias = tuple[Float[Array, "batch vocabulary"], Cache, Int[Array, ""], Bool[Array, " batch"]]


class Samples(NamedTuple):
    """Completions as drawn.

    `mask` keeps their tokens, the end token included, and `logp` is 0 elsewhere; `truncated` marks those that
    ran out of room before an end token.
    """

    tokens: Int[Array, "batch time"]
    logp: Float[Array, "batch time"]
    mask: Bool[Array, "batch time"]
    truncated: Bool[Array, " batch"]


@partial(jax.jit, static_argnames=("graph", "dtype"))
def generate(
    graph: nnx.GraphDef[Decoder],
    params: Params,
    prompts: Int[Array, "batch prompt_time"],
    key: Key[Array, ""],
    temperature: float | Float[Array, ""] = 1.0,
    dtype: DTypeLike = jnp.bfloat16,
) -> Samples:
    """One completion for each prompt; temperature 0 decodes greedily.

    `logp` is in nats, of the policy at temperature 1. The largest logit after Gumbel noise is a draw from the
    softmax, and noise scaled by the temperature makes it a draw at that temperature, down to none at 0.
    """
    model = nnx.merge(graph, jax.tree.map(lambda leaf: leaf.astype(dtype), params))

    def step(carry: _Carry, step_key: Key[Array, ""]) -> tuple[_Carry, tuple[Array, Array, Array]]:
        logits, cache, position, running = carry
        noise = jax.random.gumbel(step_key, logits.shape)
        token = jnp.where(running, jnp.argmax(logits + temperature * noise, axis=-1), PAD)
        logp = jnp.take_along_axis(jax.nn.log_softmax(logits), token[:, None], axis=-1)[:, 0]
        next_logits, cache = model(token[:, None], cache, position)
        drawn = token, jnp.where(running, logp, 0.0), running
        return (_last(next_logits), cache, position + 1, running & (token != END)), drawn

    logits, cache = model(prompts, model.empty_cache(len(prompts)), 0)
    first = _last(logits), cache, jnp.int32(PROMPT_LENGTH), jnp.ones(len(prompts), bool)
    (*_, truncated), drawn = jax.lax.scan(step, first, jax.random.split(key, COMPLETION_LENGTH))
    tokens, logp, mask = (column.T for column in drawn)
    return Samples(tokens, logp, mask, truncated)


def _last(logits: Float[Array, "batch time vocabulary"]) -> Float[Array, "batch vocabulary"]:
    return logits[:, -1].astype(jnp.float32)


def policy(model: Decoder) -> FunctionPolicy:
    """The model, as it is whenever it is asked, as a policy that answers greedily."""
    graph, _ = nnx.split(model)
    return FunctionPolicy(partial(greedy_completions, graph), lambda: nnx.split(model)[1])


def greedy_completions(
    graph: nnx.GraphDef[Decoder], params: Params, prompts: Sequence[str], bucket: int = 128
) -> list[str]:
    """The likeliest completion of each prompt, token by token, as text.

    Prompts are answered in batches padded to `bucket` rows, so that one compiled function answers them all.
    """
    completions: list[str] = []
    for first in range(0, len(prompts), bucket):
        asked = encode_prompts(prompts[first : first + bucket])
        rows = jnp.asarray(np.resize(asked, (bucket, PROMPT_LENGTH)))
        tokens = generate(graph, params, rows, jax.random.key(0), 0.0).tokens
        completions += [decode(row) for row in np.asarray(tokens)[: len(asked)].tolist()]
    return completions
