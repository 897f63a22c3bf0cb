"""Statistics block by block: the same as of the whole, however the batch falls into blocks."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics import statistic
from toolkit.metrics.blocks import TOKENS_IN_A_BLOCK, ByRow, in_blocks
from toolkit.metrics.policy import policy_metrics
from toolkit.metrics.sampler import sampler_metrics
from toolkit.metrics.statistic import Statistic

TIME = TOKENS_IN_A_BLOCK // 4  # four rows a block
Found = dict[str, Array]


def policy(by_row: ByRow) -> dict[str, Statistic]:
    """All of `policy/` and of `sampler/`."""
    of_policy = {name: array for name, array in by_row.items() if name != "sampler_logp"}
    return {**policy_metrics(**of_policy), **sampler(by_row)}


def sampler(by_row: ByRow) -> dict[str, Statistic]:
    """All of `sampler/`, if the sampler's logprobs are there."""
    if by_row["sampler_logp"] is None:
        return {}
    return sampler_metrics(by_row["mask"], by_row["logp"], by_row["sampler_logp"])


@partial(jax.jit, static_argnums=0)
def blockwise(statistics: Any, by_row: ByRow) -> Found:
    """The values in blocks."""
    return values(in_blocks(statistics, by_row))


@partial(jax.jit, static_argnums=0)
def whole(statistics: Any, by_row: ByRow) -> Found:
    """The values over all rows at once."""
    return values(statistics(by_row))


def draw(batch: int, time: int = TIME, seed: int = 0) -> dict[str, Any]:
    """What both families read, with holes in the mask, a row without tokens, and garbage behind the mask."""
    random = np.random.default_rng(seed)
    mask = random.random((batch, time)) < 0.8
    mask[batch // 2] = False
    logp = -random.gamma(1.0, 1.0, (batch, time))
    others = ("old_logp", "ref_logp", "init_logp", "sampler_logp")
    by_token = {"logp": logp, **{name: logp + random.normal(0, 0.2, logp.shape) for name in others}}
    by_token |= {"ref_kl": random.gamma(1.0, 0.01, logp.shape), "entropy": random.gamma(0.5, 0.8, logp.shape)}
    return {
        "mask": jnp.asarray(mask),
        **{name: jnp.asarray(np.where(mask, x, np.nan), jnp.float32) for name, x in by_token.items()},
        "advantages": jnp.asarray(random.normal(size=batch), jnp.float32),
        "success": jnp.asarray(random.choice([0.0, 1.0, np.nan], batch), jnp.float32),
    }


def assert_same(found: Found, expected: Found) -> None:
    """The same up to the rounding of sums in another order; what is counted or compared is the same to the last bit."""
    assert found.keys() == expected.keys()
    for key, value in found.items():
        tolerance = 0.0 if key.endswith(("histogram", "_max", "_p10", "_p90")) else 2e-5
        np.testing.assert_allclose(value, expected[key], rtol=tolerance, atol=tolerance, err_msg=key)


def test_both_families_in_blocks_are_those_of_the_whole() -> None:
    """Three blocks, of which the last is not full: every value of `policy/` and of `sampler/`."""
    by_row = draw(11)
    found = blockwise(policy, by_row)
    assert len(found) == 36
    assert_same(found, whole(policy, by_row))
    assert float(found["policy/entropy_histogram"].sum()) == int(by_row["mask"].sum())


@pytest.mark.parametrize("batch", [3, 4, 8])
def test_it_does_not_matter_whether_the_blocks_are_full(batch: int) -> None:
    """Less than a block, exactly one, and exactly two."""
    by_row = draw(batch, seed=1)
    assert_same(blockwise(sampler, by_row), whole(sampler, by_row))


def test_a_mask_that_keeps_nothing_has_no_value() -> None:
    """NaN and empty histograms, as over the whole."""
    by_row = draw(11) | {"mask": jnp.zeros((11, TIME), bool)}
    found = blockwise(policy, by_row)
    assert_same(found, whole(policy, by_row))
    assert found["policy/entropy_histogram"].sum() == 0
    assert all(np.isnan(value) for key, value in found.items() if "histogram" not in key)


def test_one_row_that_is_longer_than_a_block_is_a_block() -> None:
    """Three rows of more tokens than a block has are three blocks, with nothing lost of any."""
    by_row = draw(3, TOKENS_IN_A_BLOCK + 7)
    assert_same(blockwise(sampler, by_row), whole(sampler, by_row))


def test_advantages_may_be_by_token_and_what_is_not_there_stays_away() -> None:
    """An array is cut along its first axis whatever the others are, and None gives no keys in a block either."""
    known = draw(6)
    by_row = dict.fromkeys(known) | {name: known[name] for name in ("mask", "logp")} | {"advantages": known["ref_kl"]}
    found = blockwise(policy, by_row)
    names = {"entropy_mc", "nonfinite_fraction", "logp_advantage_covariance"}
    assert found.keys() == {f"policy/{name}" for name in names}
    assert_same(found, whole(policy, by_row))


def test_a_row_that_two_blocks_read_counts_once() -> None:
    """Six rows in blocks of four: 1 + 2 + 3 + 4 + 5 + 6 is 21 a token, and not 28 with rows 3 and 4 twice."""

    def sums(by_row: ByRow) -> dict[str, Statistic]:
        return {"sum": statistic.total(by_row["x"], by_row["mask"])}

    x = jnp.broadcast_to(jnp.arange(1.0, 7.0)[:, None], (6, TIME))
    found = in_blocks(sums, {"x": x, "mask": jnp.ones((6, TIME), bool)})
    assert found["sum"].value == 21 * TIME


@pytest.mark.parametrize(
    ("batch", "time", "rows"),
    [(11, TIME, 4), (5, TIME, 4), (4, TIME, 4), (3, TIME, 3), (2, 4 * TIME, 1), (2, 5 * TIME, 1), (9, 7, 9), (3, 0, 3)],
)
def test_what_is_looked_at_is_no_larger_than_a_block(batch: int, time: int, rows: int) -> None:
    """As many rows as fit, at least one, and never more than there are, also where they have no length."""
    shapes = set()

    def recorded(by_row: ByRow) -> dict[str, Statistic]:
        shapes.add((by_row["mask"].shape, by_row["success"].shape))
        return sampler(by_row)

    jax.eval_shape(lambda by_row: values(in_blocks(recorded, by_row)), draw(batch, time))
    assert shapes == {((rows, time), (rows,))}


def test_vmap_gives_each_batch_its_own() -> None:
    """Two batches in one call, each with a last block that is not full, are as one by one."""
    batches = [draw(5, seed=seed) for seed in (3, 4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    together = jax.jit(jax.vmap(partial(blockwise, sampler)))(stacked)
    for number, batch in enumerate(batches):
        assert_same({key: value[number] for key, value in together.items()}, whole(sampler, batch))
