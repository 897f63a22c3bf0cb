"""Token statistics from logits and from hidden states, against SciPy in float64 and torch."""

from random import Random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special, stats

from toolkit.metrics.tokens import (
    TokenStatistics,
    entropy,
    logprobs,
    token_statistics,
    token_statistics_from_hidden,
)

SHAPE, VOCABULARY = (3, 5), 40
# The last steps overlap those before, and the vocabulary is no multiple of a block.
BLOCKS = (2, 19, 300)
jitted_entropy, jitted_logprobs = jax.jit(entropy), jax.jit(logprobs)
jitted, jitted_from_hidden = jax.jit(token_statistics), jax.jit(token_statistics_from_hidden)


def draw(
    scale: float, offset: float = 0.0, impossible: float = 0.0, shape: tuple[int, ...] = (*SHAPE, VOCABULARY)
) -> tuple[np.ndarray, np.ndarray]:
    """Logits as float32, a share of them -inf except where the taken token is, and those tokens."""
    random = np.random.default_rng(int(scale))
    logits = (random.normal(size=shape) * scale + offset).astype(np.float32)
    tokens = random.integers(0, shape[-1], shape[:-1])
    spared = np.arange(shape[-1]) == tokens[..., None]
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


def exact(logits: np.ndarray, tokens: np.ndarray, reference: np.ndarray) -> TokenStatistics:
    """The statistics in float64; the reference may rule out only what the policy does."""
    log_policy, log_reference = (special.log_softmax(x.astype(np.float64), axis=-1) for x in (logits, reference))
    possible = np.isfinite(logits)
    with np.errstate(invalid="ignore"):
        ratio = np.where(possible, log_policy - log_reference, 0.0)
    return TokenStatistics(
        logp=jnp.asarray(np.take_along_axis(log_policy, tokens[..., None], axis=-1)[..., 0], jnp.float32),
        entropy=jnp.asarray(stats.entropy(np.exp(log_policy), axis=-1), jnp.float32),
        kl=jnp.asarray(np.sum(np.exp(log_policy) * ratio, axis=-1), jnp.float32),
    )


def assert_close(found: TokenStatistics, expected: TokenStatistics, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def batch(logits: np.ndarray, tokens: np.ndarray, dtype: str = "float32") -> tuple[jax.Array, jax.Array, jax.Array]:
    """What the statistics take, with a reference that differs from the policy and rules out the same tokens."""
    reference = logits[::-1, ::-1] / 2 + np.random.default_rng(0).normal(size=logits.shape)
    reference = np.where(np.isfinite(reference), reference, 3.0)
    reference = np.where(np.isfinite(logits), reference, logits)
    return jnp.asarray(logits, dtype), jnp.asarray(tokens, jnp.int32), jnp.asarray(reference, dtype)


@CASES
def test_statistics_are_scipys(scale: float, offset: float, impossible: float) -> None:
    """Over several blocks of time and vocabulary, of no round size."""
    arguments = batch(*draw(scale, offset, impossible, BLOCKS))
    assert_close(jitted(*arguments), exact(*(np.asarray(x) for x in arguments)), rtol=1e-4)


def test_statistics_are_those_of_torchs_log_softmax() -> None:
    """An implementation that shares nothing with this one."""
    arguments = batch(*draw(4.0, shape=BLOCKS))
    logits, tokens, reference = (torch.tensor(np.asarray(x)) for x in arguments)
    log_policy, log_reference = (torch.log_softmax(x.double(), -1) for x in (logits, reference))
    expected = TokenStatistics(
        logp=jnp.asarray(log_policy.gather(-1, tokens[..., None].long())[..., 0].float().numpy()),
        entropy=jnp.asarray(torch.distributions.Categorical(logits=logits.double()).entropy().float().numpy()),
        kl=jnp.asarray(
            torch.nn.functional.kl_div(log_reference, log_policy, reduction="none", log_target=True)
            .sum(-1)
            .float()
            .numpy()
        ),
    )
    assert_close(jitted(*arguments), expected)


def test_statistics_are_those_of_logprobs_and_entropy_and_need_no_reference() -> None:
    """Then there is no KL, and the rest is the same."""
    logits, tokens, reference = batch(*draw(3.0, shape=BLOCKS))
    found = jax.jit(token_statistics)(logits, tokens)
    assert found.kl is None
    with_reference = jitted(logits, tokens, reference)
    assert_close(found, TokenStatistics(with_reference.logp, with_reference.entropy, None))
    assert_close(found, TokenStatistics(logprobs(logits, tokens), entropy(logits), None))


def test_statistics_by_hand() -> None:
    """A half and two quarters against thirds, and a token that is certain against one of two."""
    policy = jnp.log(jnp.array([[[2.0, 1.0, 1.0], [1.0, 0.0, 0.0]]]))
    reference = jnp.log(jnp.array([[[5.0, 5.0, 5.0], [1.0, 1.0, 0.0]]]))
    found = token_statistics(policy, jnp.array([[0, 1]]), reference)
    np.testing.assert_allclose(found.logp, [[-np.log(2), -np.inf]], rtol=1e-6)
    np.testing.assert_allclose(found.entropy, [[1.5 * np.log(2), 0.0]], rtol=1e-6)
    assert found.kl is not None
    np.testing.assert_allclose(found.kl, [[np.log(3) - 1.5 * np.log(2), np.log(2)]], rtol=1e-5)


def test_the_kl_is_infinite_only_where_the_reference_rules_out_what_the_policy_may_take() -> None:
    """However unlikely that is: in the second row the weight underflows, in the third it does so between blocks."""
    logits = np.zeros((5, 1, 300), np.float32)
    logits[1, 0, 7], logits[2, 0, :100], logits[3:, 0, :150] = -300.0, -300.0, -np.inf
    reference = np.zeros_like(logits)
    reference[:3, 0, 7], reference[3, 0, :150] = -np.inf, -np.inf
    kl = jitted(jnp.asarray(logits), jnp.zeros((5, 1), jnp.int32), jnp.asarray(reference)).kl
    np.testing.assert_allclose(kl[:, 0], [np.inf, np.inf, np.inf, 0.0, np.log(2)], rtol=1e-6, atol=1e-6)


def test_a_mask_of_the_lowest_float_is_as_good_as_minus_infinity() -> None:
    """Many models mask with a finite number; the policy's mask meets a reference without one."""
    logits, tokens, reference = batch(*draw(2.0, impossible=0.5, shape=BLOCKS))
    lowest = jnp.finfo(jnp.float32).min
    everywhere = jnp.where(jnp.isfinite(reference), reference, 0.0)
    assert_close(jitted(jnp.maximum(logits, lowest), tokens, everywhere), jitted(logits, tokens, everywhere))


def test_what_has_no_value_is_nan() -> None:
    """A row without a possible token, a NaN or +inf among the logits; and of a token that is none, only the logprob."""
    logits = np.zeros((4, 1, 300), np.float32)
    logits[0], logits[1, 0, 3], logits[2, 0, 200] = -np.inf, np.nan, np.inf
    tokens, reference = jnp.array([[0], [0], [0], [-100]]), jnp.zeros((4, 1, 300))
    found = jitted(jnp.asarray(logits), tokens, reference)
    assert found.kl is not None
    np.testing.assert_array_equal(np.isnan(found.logp[:, 0]), [True, True, True, True])
    np.testing.assert_array_equal(np.isnan(found.entropy[:, 0]), [True, True, True, False])
    np.testing.assert_array_equal(np.isnan(found.kl[:, 0]), [True, True, True, False])
    assert np.isnan(jitted(reference, jnp.array([[0], [0], [0], [300]]), reference).logp[3, 0])
    assert np.isnan(jitted(reference, tokens, jnp.asarray(logits)).kl[:3]).all()


def test_bfloat16_is_computed_in_float32_and_eager_and_jit_agree() -> None:
    """The statistics are those of the rounded logits."""
    rounded, tokens, reference = batch(*draw(3.0, shape=BLOCKS), "bfloat16")
    found = token_statistics(rounded, tokens, reference)
    assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    assert_close(found, jitted(rounded.astype(jnp.float32), tokens, reference.astype(jnp.float32)), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 129), (3, 9, 1), (17, 2), (2, 3, 4, 5)], ids=str)
def test_any_shape_will_do(shape: tuple[int, ...]) -> None:
    """One position, one token of vocabulary, a whole block and one more, no batch, a batch of two axes."""
    arguments = batch(*draw(2.0, shape=shape))
    assert_close(jitted(*arguments), exact(*(np.asarray(x) for x in arguments)))


def hidden_batch() -> tuple[jax.Array, jax.Array, jax.Array, tuple[jax.Array, jax.Array]]:
    """Hidden states and head of a policy, tokens, and the same pair of a wider reference."""
    random = np.random.default_rng(5)
    hidden, reference_hidden = (jnp.asarray(random.normal(size=(*BLOCKS[:2], width)), jnp.float32) for width in (8, 12))
    head, reference_head = (jnp.asarray(random.normal(size=(width, BLOCKS[2])), jnp.float32) for width in (8, 12))
    return (
        hidden,
        head,
        jnp.asarray(random.integers(0, BLOCKS[2], BLOCKS[:2]), jnp.int32),
        (reference_hidden, reference_head),
    )


@pytest.mark.parametrize(
    ("hidden_type", "head_type"), [("float32", "float32"), ("bfloat16", "bfloat16"), ("bfloat16", "float32")]
)
def test_hidden_states_give_the_statistics_of_their_logits(hidden_type: str, head_type: str) -> None:
    """Also where they, or they and the head, are bfloat16: the logits are then not rounded."""
    hidden, head, tokens, (reference_hidden, reference_head) = hidden_batch()
    hidden, reference_hidden = hidden.astype(hidden_type), reference_hidden.astype(hidden_type)
    head, reference_head = head.astype(head_type), reference_head.astype(head_type)
    logits, reference = (
        x.astype(jnp.float32) @ y.astype(jnp.float32) for x, y in ((hidden, head), (reference_hidden, reference_head))
    )
    found = jitted_from_hidden(hidden, head, tokens, (reference_hidden, reference_head))
    assert_close(found, jitted(logits, tokens, reference))
    alone = jitted_from_hidden(hidden, head, tokens)
    assert_close(alone, TokenStatistics(found.logp, found.entropy, None))


eighths = arrays.arrays(np.int32, (2, 9, 150), elements=st.integers(-300, 300)).map(lambda x: x.astype(np.float32) / 8)
quietly = settings(max_examples=30, deadline=None, database=None)


@quietly
@given(eighths, eighths)
def test_bounds_hold_for_any_logits(logits: np.ndarray, reference: np.ndarray) -> None:
    """The KL is not negative and 0 to itself, the entropy lies between 0 and that of equal logits."""
    tokens = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    found = jitted(jnp.asarray(logits), tokens, jnp.asarray(reference))
    assert found.kl is not None
    assert np.all(found.kl >= -1e-5)
    assert np.all((found.entropy >= -1e-6) & (found.entropy <= np.log(150) + 1e-5))
    assert np.all((found.logp <= 0) & (found.logp >= -np.log(150) - 1e-5))
    same = jitted(jnp.asarray(logits), tokens, jnp.asarray(logits)).kl
    np.testing.assert_array_equal(same, 0)


@quietly
@given(eighths, eighths, st.integers(-1000, 1000), st.randoms(use_true_random=False))
def test_neither_an_offset_nor_the_order_of_the_vocabulary_matters(
    logits: np.ndarray, reference: np.ndarray, offset: int, random: Random
) -> None:
    """Eighths plus an integer are exact in float32, so nothing but the sums' order differs."""
    order = np.array(random.sample(range(150), 150))
    tokens = np.full((2, 9), 17)
    moved = np.full((2, 9), np.flatnonzero(order == 17)[0])
    found = jitted(
        jnp.asarray(logits[..., order] + np.float32(offset)), jnp.asarray(moved), jnp.asarray(reference[..., order])
    )
    expected = jitted(jnp.asarray(logits), jnp.asarray(tokens), jnp.asarray(reference))
    assert_close(found, expected, rtol=1e-4, atol=1e-4)
