"""Token statistics from logits, against SciPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from toolkit.metrics.tokens import entropy, logprobs

SHAPE, VOCABULARY = (3, 5), 40
jitted_entropy, jitted_logprobs = jax.jit(entropy), jax.jit(logprobs)


def draw(scale: float, offset: float = 0.0, impossible: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits as float32, a share of them -inf except where the taken token is, and those tokens."""
    random = np.random.default_rng(int(scale))
    logits = (random.normal(size=(*SHAPE, VOCABULARY)) * scale + offset).astype(np.float32)
    tokens = random.integers(0, VOCABULARY, SHAPE)
    spared = np.arange(VOCABULARY) == tokens[..., None]
    logits[(random.random(logits.shape) < impossible) & ~spared] = -np.inf
    return logits, tokens


CASES = pytest.mark.parametrize(
    ("scale", "offset", "impossible"),
    [(1.0, 0.0, 0.0), (1.0, 0.0, 0.6), (30.0, 0.0, 0.0), (2.0, 1e4, 0.0), (2.0, -3e4, 0.5), (1e4, 0.0, 0.0)],
    ids=["usual", "masked", "sharp", "far up", "far down and masked", "huge"],
)


@CASES
def test_entropy_is_scipys(scale: float, offset: float, impossible: float) -> None:
    """Also where logits are -inf, very large, or so far apart that one token takes all."""
    logits, _ = draw(scale, offset, impossible)
    expected = stats.entropy(special.softmax(logits.astype(np.float64), axis=-1), axis=-1)
    np.testing.assert_allclose(jitted_entropy(jnp.asarray(logits)), expected, rtol=1e-4, atol=1e-6)


@CASES
def test_logprobs_are_scipys(scale: float, offset: float, impossible: float) -> None:
    """An offset of all logits changes nothing, however large."""
    logits, tokens = draw(scale, offset, impossible)
    exact = special.log_softmax(logits.astype(np.float64), axis=-1)
    expected = np.take_along_axis(exact, tokens[..., None], axis=-1)[..., 0]
    found = jitted_logprobs(jnp.asarray(logits), jnp.asarray(tokens, jnp.int32))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_tokens_by_hand() -> None:
    """Equal logits have the entropy ln n, a lone possible token has none, and an impossible one the logprob -inf."""
    logits = jnp.zeros((*SHAPE, VOCABULARY)).at[0].set(-jnp.inf).at[0, :, 3].set(7.0).at[1, :, 4:].set(-jnp.inf)
    expected = np.repeat([0.0, np.log(4), np.log(VOCABULARY)], SHAPE[1]).reshape(SHAPE)
    np.testing.assert_allclose(jitted_entropy(logits), expected, rtol=1e-6, atol=1e-7)
    taken = jitted_logprobs(logits, jnp.full(SHAPE, 5, jnp.int32))
    np.testing.assert_allclose(taken[:, 0], [-np.inf, -np.inf, -np.log(VOCABULARY)], rtol=1e-6)


def test_eager_and_jit_agree_and_bfloat16_is_computed_in_float32() -> None:
    """A model's logits are often bfloat16; their statistics must not be."""
    logits, tokens = draw(3.0)
    rounded, taken = jnp.asarray(logits, jnp.bfloat16), jnp.asarray(tokens, jnp.int32)
    exact = rounded.astype(jnp.float32)
    for eager, expected in (
        (entropy(rounded), jitted_entropy(exact)),
        (logprobs(rounded, taken), jitted_logprobs(exact, taken)),
    ):
        assert eager.dtype == jnp.float32
        np.testing.assert_allclose(eager, expected, rtol=1e-5, atol=1e-6)


def test_the_gradient_is_that_of_the_log_softmax() -> None:
    """Also where two logits are the largest together, and in an example that trains on it."""
    logits = jnp.array([[1.0, 3.0, 3.0, -2.0], [0.5, 0.0, -1.0, 2.0]])
    tokens = jnp.array([1, 0])
    own = jax.grad(lambda x: logprobs(x, tokens).sum())(logits)
    expected = jax.grad(lambda x: jnp.take_along_axis(jax.nn.log_softmax(x), tokens[:, None], axis=-1).sum())(logits)
    np.testing.assert_allclose(own, expected, rtol=1e-6, atol=1e-7)
