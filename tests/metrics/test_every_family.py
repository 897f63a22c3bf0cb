"""What holds for every metric family: parts merge to the whole, and neither order nor padding nor absence matters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import Array

from tests.metrics.values import values
from toolkit.metrics.advantages import advantage_metrics
from toolkit.metrics.completions import completion_metrics
from toolkit.metrics.groups import group_metrics
from toolkit.metrics.policy import policy_metrics
from toolkit.metrics.rewards import reward_metrics, weighted_total
from toolkit.metrics.sampler import sampler_metrics
from toolkit.metrics.statistic import Statistic, merged
from toolkit.metrics.volume import volume_metrics

BATCH, TIME, PARTS = 10, 6, 4
REWARDS = ("correct", "format")
BY_TOKEN = ("logp", "old_logp", "ref_logp", "init_logp", "sampler_logp", "ref_kl", "entropy", "token_advantages")
BY_COMPLETION = (*REWARDS, "advantages", "success")
POLICY = ("logp", "old_logp", "ref_logp", "init_logp", "ref_kl", "entropy", "advantages", "success")
EXTREMES = {
    **{f"rewards/{name}/{key}": f"rewards/{name}/" for name in (*REWARDS, "total") for key in ("p10", "median", "p90")},
    **{f"completions/length_{key}": "completions/length_" for key in ("p50", "p95")},
}
"""Each quantile that is sorted in a batch, and what its minimum and maximum begin with."""
OF_ITS_OWN_RANGE = ("groups/all_low_fraction", "groups/all_high_fraction")
Batch = dict[str, np.ndarray]
Values = dict[str, np.ndarray]


def every_family(have: dict[str, Array]) -> dict[str, Statistic]:
    """Each metric of each family; of the advantages those by completion and those by token."""
    mask, rows, group, success = (have[name] for name in ("mask", "rows", "group", "success"))
    rewards, weights = {name: have[name] for name in REWARDS}, jnp.array([1.0, -0.5])
    total = weighted_total(rewards, weights)
    of_policy: dict[str, Any] = {name: have[name] for name in POLICY}
    by_token = advantage_metrics(have["token_advantages"], rows, mask)
    return {
        **reward_metrics(rewards, weights, rows, group),
        **group_metrics(total, group, rows, success, (1, 2)),
        **advantage_metrics(have["advantages"], rows, mask),
        **{f"{key} by token": statistic for key, statistic in by_token.items()},
        **policy_metrics(mask, **of_policy),
        **sampler_metrics(mask, have["logp"], have["sampler_logp"]),
        **completion_metrics(mask, rows, have["truncated"], total, success),
        **volume_metrics(rows, mask, group),
    }


@jax.jit
def jitted(have: dict[str, Array]) -> dict[str, Array]:
    """The values over a batch."""
    return values(every_family(have))


@jax.jit
def jitted_parts(have: dict[str, Array]) -> dict[str, Array]:
    """The values from parts that are stacked along the first axis."""
    return values(merged(jax.vmap(every_family)(have)))


def measured(batch: Batch) -> Values:
    """The values over a batch of NumPy arrays."""
    return {key: np.asarray(value) for key, value in jitted(on_device(batch)).items()}


def from_parts(parts: list[Batch]) -> Values:
    """The values of the whole, from parts of the same shape."""
    stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    return {key: np.asarray(value) for key, value in jitted_parts(on_device(stacked)).items()}


def on_device(batch: Batch) -> dict[str, Array]:
    """The types that the kernels take."""
    return {name: jnp.asarray(x, jnp.float32 if x.dtype == np.float64 else x.dtype) for name, x in batch.items()}


def part(batch: Batch, rows: np.ndarray) -> Batch:
    """The batch with these rows only, at the top; the rest is padding, and holds what padding may hold."""
    chosen = np.flatnonzero(rows)

    def cut(x: np.ndarray) -> np.ndarray:
        padding = {"f": np.nan, "i": BATCH, "b": False}[x.dtype.kind]
        rest = np.full((BATCH - len(chosen), *x.shape[1:]), padding, x.dtype)
        return np.concatenate([x[chosen], rest])

    return {name: cut(x) for name, x in batch.items()}


def dirtied(batch: Batch, garbage: float) -> Batch:
    """The batch with garbage in all places that its masks leave out."""
    kept = {1: batch["rows"], 2: batch["mask"]}
    floats = {name: np.where(kept[x.ndim], x, garbage) for name, x in batch.items() if x.dtype.kind == "f"}
    group = np.where(batch["rows"], batch["group"], BATCH).astype(np.int32)
    return batch | floats | {"group": group, "truncated": batch["truncated"] | ~batch["rows"]}


def blank(rows: int, time: int) -> Batch:
    """A batch of zeros, all in one group, in which every token counts."""
    return {
        **{name: np.zeros((rows, time)) for name in BY_TOKEN},
        **{name: np.zeros(rows) for name in BY_COMPLETION},
        "rows": np.ones(rows, bool),
        "mask": np.ones((rows, time), bool),
        "truncated": np.zeros(rows, bool),
        "group": np.zeros(rows, np.int32),
    }


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Batches of all kinds: groups of any size, holes in the masks, NaN and infinities among exact eighths."""

    def eighths(shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        top = int(8 * high)
        found = draw(arrays(np.int16, shape, elements=st.integers(int(8 * low), top + 3), fill=st.nothing()))
        return np.select([found == top + odd for odd in (1, 2, 3)], [np.nan, np.inf, -np.inf], found / 8)

    def flags(shape: tuple[int, ...]) -> np.ndarray:
        return draw(arrays(bool, shape, elements=st.booleans(), fill=st.nothing()))

    def one_of(*levels: float) -> np.ndarray:
        return draw(arrays(np.float64, BATCH, elements=st.sampled_from(levels), fill=st.nothing()))

    ranges = {"ref_kl": (0, 4), "entropy": (0, 14), "token_advantages": (-3, 3)}
    by_token = {name: eighths((BATCH, TIME), *ranges.get(name, (-25, 0))) for name in BY_TOKEN}
    rows = flags((BATCH,))
    return {
        **by_token,
        # Levels that float32 rounds: groups whose rewards are all equal are what it may see a signal in.
        "correct": one_of(0.7, 1 / 3, np.nan),
        "format": eighths((BATCH,), -8, 8) if draw(st.booleans()) else one_of(0.1, 0.7),
        "advantages": eighths((BATCH,), -3, 3),
        "success": one_of(0.0, 1.0, np.nan),
        "rows": rows,
        "mask": rows[:, None] & flags((BATCH, TIME)),
        "truncated": flags((BATCH,)),
        "group": draw(arrays(np.int32, BATCH, elements=st.integers(0, BATCH - 1), fill=st.nothing())),
    }


# A batch that fails is not made smaller: with so many arrays that takes minutes.
few = settings(max_examples=40, deadline=None, derandomize=True, phases=(Phase.generate,))
cuts = arrays(np.int8, BATCH, elements=st.integers(0, PARTS - 1), fill=st.nothing())


def assert_same(found: Values, expected: Values) -> None:
    """The same values, up to the rounding of sums in another order, and absent in the same places."""
    assert found.keys() == expected.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], rtol=2e-5, atol=2e-5, err_msg=key)


@few
@given(batches(), cuts)
def test_parts_merge_to_the_whole(batch: Batch, cut: np.ndarray) -> None:
    """Micro-batches of any size, each with whole groups; what was sorted in each stays between the extremes."""
    found = from_parts([part(batch, cut[batch["group"]] == number) for number in range(PARTS)])
    expected = measured(batch)
    for key, extremes in EXTREMES.items():
        low, quantile, high = expected[f"{extremes}min"], found[key], expected[f"{extremes}max"]
        assert np.isnan([low, quantile]).all() or low - 1e-5 <= quantile <= high + 1e-5, key
    merging = expected.keys() - EXTREMES.keys() - set(OF_ITS_OWN_RANGE)
    assert_same({key: found[key] for key in merging}, {key: expected[key] for key in merging})


@few
@given(batches(), st.integers(0, PARTS - 1))
def test_parts_without_completions_change_nothing(batch: Batch, place: int) -> None:
    """Three parts are padding, wherever the fourth stands: quantiles stay exact too."""
    nobody, everybody = np.zeros(BATCH, bool), np.ones(BATCH, bool)
    parts = [part(batch, everybody if number == place else nobody) for number in range(PARTS)]
    assert_same(from_parts(parts), measured(batch))


@few
@given(batches(), st.permutations(range(BATCH)), st.permutations(range(BATCH)))
def test_the_order_of_completions_and_of_groups_does_not_matter(batch: Batch, order: list[int], ids: list[int]) -> None:
    """Rows may be shuffled, as long as each stays with its group, and groups may swap their ids."""
    shuffled = {name: x[order] for name, x in batch.items()}
    shuffled["group"] = np.array(ids, np.int32)[shuffled["group"]]
    assert_same(measured(shuffled), measured(batch))


@few
@given(batches(), st.sampled_from([np.nan, np.inf, -np.inf, 1e38]))
def test_what_lies_behind_the_masks_changes_nothing(batch: Batch, garbage: float) -> None:
    """Padding may hold anything, to the last bit; and whatever was measured, no value is infinite."""
    found, expected = measured(dirtied(batch, garbage)), measured(batch)
    for key, value in found.items():
        np.testing.assert_array_equal(value, expected[key], err_msg=key)
        assert not np.isinf(value).any(), key


def test_no_completion_has_no_value() -> None:
    """Only what is counted is 0."""
    found = measured(blank(BATCH, TIME) | {"rows": np.zeros(BATCH, bool), "mask": np.zeros((BATCH, TIME), bool)})
    for key, value in found.items():
        counted = key.startswith("throughput/") or "histogram" in key
        assert (value == 0).all() if counted else np.isnan(value), key


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_give_no_value(fill: float) -> None:
    """All rewards None and all logprobs broken: what is left is lengths, counts, and how much is missing."""
    batch = blank(BATCH, TIME)
    found = measured(batch | {name: np.full_like(x, fill) for name, x in batch.items() if x.dtype.kind == "f"})
    for name in (*REWARDS, "total"):
        assert found.pop(f"rewards/{name}/coverage") == 0
    assert found.pop("policy/nonfinite_fraction") == 1
    lengths = {key: value for key, value in found.items() if key.startswith(("throughput/", "completions/"))}
    unknown = {"length_reward_correlation", "length_correct", "length_incorrect"}
    assert {key for key, value in lengths.items() if np.isnan(value).any()} == {f"completions/{key}" for key in unknown}
    for key in found.keys() - lengths.keys():
        assert found[key].sum() == 0 if "histogram" in key else np.isnan(found[key]), key


@pytest.mark.parametrize("shape", [(1, TIME), (BATCH, 1), (1, 1), (BATCH, 0)])
def test_no_shape_is_too_small(shape: tuple[int, int]) -> None:
    """A single completion, a single token, and a batch that has no tokens at all give the same keys as any other."""
    found = jax.eval_shape(jitted, on_device(blank(*shape)))
    assert found.keys() == jax.eval_shape(jitted, on_device(blank(BATCH, TIME))).keys()
    assert all(value.dtype == jnp.float32 for value in found.values())
