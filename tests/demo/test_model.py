"""The decoder: causal, and the same with a cache."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from toolkit.demo.model import LENGTH, Decoder, completion_logits
from toolkit.demo.tokenizer import COMPLETION_LENGTH, PROMPT_LENGTH, TOKENS

compiled = nnx.jit(Decoder.__call__)


def random_tokens(*shape: int) -> Int[Array, "..."]:
    """Any tokens of the vocabulary."""
    return jax.random.randint(jax.random.key(0), shape, 0, len(TOKENS))


def test_logits_see_no_later_token(model: Decoder) -> None:
    """Changing a token changes no logits before it, and those after it."""
    tokens = random_tokens(2, LENGTH)
    logits, _ = compiled(model, tokens)
    changed, _ = compiled(model, tokens.at[:, 20].add(1))
    np.testing.assert_array_equal(logits[:, :20], changed[:, :20])
    assert jnp.all(jnp.any(logits[:, 20:] != changed[:, 20:], axis=-1))


def test_a_cache_changes_no_logits(model: Decoder) -> None:
    """Reading a text in two parts through a cache gives the logits of reading it whole."""
    tokens = random_tokens(3, 12)
    whole, _ = compiled(model, tokens)
    first, cache = compiled(model, tokens[:, :7], model.empty_cache(3))
    second, _ = compiled(model, tokens[:, 7:], cache, 7)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, atol=1e-5)


def test_completion_logits_choose_the_completion(model: Decoder) -> None:
    """The first logits follow the whole prompt, the last ones all tokens but the last."""
    prompts, completions = random_tokens(2, PROMPT_LENGTH), random_tokens(2, COMPLETION_LENGTH)
    logits = nnx.jit(completion_logits)(model, prompts, completions)
    after_prompt, _ = compiled(model, prompts)
    assert logits.shape == (2, COMPLETION_LENGTH, len(TOKENS))
    np.testing.assert_allclose(logits[:, 0], after_prompt[:, -1], atol=1e-5)
