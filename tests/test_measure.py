"""`measure` and `statistics`: the same numbers wherever JAX runs, of a whole or of parts, in few compilations."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.compilation import compilations
from toolkit.errors import RolloutError
from toolkit.families import NEEDS
from toolkit.measure import fields_read, finished, inputs, measure, missing, planned, statistics
from toolkit.measurement import Measurement, Statistics, merge
from toolkit.metrics.histogram import LENGTH_EDGES, SIGNED_LOG_EDGES
from toolkit.record import Histogram, Value
from toolkit.rollout import Rollout

BATCH, TIME, GROUP_SIZE = 12, 50, 4
ALL = frozenset(NEEDS)
Fields = dict[str, Any]


def draw(batch: int = BATCH, time: int = TIME) -> Fields:
    """Every array of a rollout, on the host: a reward and a judgement are missing, and there is NaN behind the mask."""
    random = np.random.default_rng(0)
    mask = np.arange(time) < random.integers(1, time + 1, batch)[:, None]

    def by_token(low: float, high: float) -> np.ndarray:
        return np.where(mask, random.uniform(low, high, mask.shape), np.nan).astype(np.float32)

    correct, brief = random.choice([0.0, 1.0], batch), random.normal(size=batch)
    correct[1] = np.nan
    correct[4:8], brief[4:8] = 0, -2  # a group that teaches nothing
    return {
        "rewards": {"correct": correct.astype(np.float32), "brief": brief.astype(np.float32)},
        "weights": {"brief": 0.5},
        "advantages": random.normal(size=batch).astype(np.float32),
        "group_ids": np.arange(batch) // GROUP_SIZE,
        "mask": mask,
        "truncated": mask[:, time // 2],
        "entropy": by_token(0, 2),
        "ref_kl": by_token(0, 1),
        **{name: by_token(-3, -0.1) for name in ("logp", "old_logp", "ref_logp", "init_logp", "sampler_logp")},
    }


def on_device(fields: Any) -> Any:
    """The same with every array of NumPy on the device."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, fields)


def rows(fields: Fields, which: Any) -> Fields:
    """Some rows of every array."""
    return {
        name: value if name == "weights" else jax.tree.map(lambda array: array[which], value)
        for name, value in fields.items()
    }


def without(*names: str) -> Rollout:
    """A rollout of all fields but these."""
    return Rollout(**{name: value for name, value in draw().items() if name not in names})


def micro_batches() -> Rollout:
    """The rollout as micro-batches of a group each, stacked along a first axis; group ids begin anew in each."""
    by_row = {name: value for name, value in draw().items() if name != "weights"}
    stacked = jax.tree.map(lambda array: jnp.asarray(array.reshape(-1, GROUP_SIZE, *array.shape[1:])), by_row)
    return Rollout(**{**stacked, "group_ids": stacked["group_ids"] * 0})


def micro_statistics(part: Rollout, families: frozenset[str] = ALL) -> Statistics:
    """The statistics of a micro-batch, whose weights are the same in each."""
    return statistics(replace(part, weights=draw()["weights"]), families=families)


@cache
def keys(*lacking: str, families: frozenset[str] = ALL) -> set[str]:
    """What would be measured of a rollout without these fields; traced, but neither compiled nor computed."""
    fields = {name: value for name, value in draw().items() if name not in lacking}
    traced = jax.eval_shape(lambda: statistics(Rollout(**fields), families=families).finished())
    return {column.key for column in traced.columns}


@cache
def of_all_rows() -> Mapping[str, Value]:
    """What all families measure of all rows at once; compiled once for all tests."""
    return measure(Rollout(**draw())).values()


def whole(families: frozenset[str] = ALL) -> Mapping[str, Value]:
    """What these families measure of all rows at once."""
    return {key: value for key, value in of_all_rows().items() if key.partition("/")[0] in families}


def assert_same(found: Mapping[str, Value], expected: Mapping[str, Value]) -> None:
    """The same keys, numbers that are the same up to rounding, and the very histograms."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        other = found[key]
        if isinstance(value, Histogram) and isinstance(other, Histogram):
            np.testing.assert_array_equal(other.counts, value.counts, err_msg=key)
            np.testing.assert_array_equal(other.edges, value.edges, err_msg=key)
        else:
            assert other == pytest.approx(value, rel=1e-5, abs=1e-6), key


QUANTILES = {
    **{f"rewards/{name}/{quantile}": SIGNED_LOG_EDGES
       for name in ("correct", "brief", "total") for quantile in ("p10", "median", "p90")},
    **dict.fromkeys(("completions/length_p50", "completions/length_p95"), LENGTH_EDGES),
}  # fmt: skip
"""The quantiles that are sorted for, with the edges of the bins that parts leave behind."""

BY_RANGE = {"groups/all_low_fraction", "groups/all_high_fraction"}
"""Shares of groups that are low or high in the range of their own part: parts keep what they were judged by."""


def assert_merged(found: Mapping[str, Value], expected: Mapping[str, Value]) -> None:
    """What parts give: what the whole gives, and of sorted quantiles a number in the bins around the exact one."""
    kept = expected.keys() - QUANTILES.keys() - BY_RANGE
    assert found.keys() == expected.keys()
    assert_same({key: found[key] for key in kept}, {key: expected[key] for key in kept})
    for key in expected.keys() & QUANTILES.keys():
        q, edges, entries = quantile_of(key), np.array(QUANTILES[key]), entries_of(key)
        below, above = (np.quantile(entries, q, method=method) for method in ("lower", "higher"))
        assert edges[edges <= below].max() <= found[key] <= edges[edges > above].min(), key


def quantile_of(key: str) -> float:
    """The share that lies below, from a key that ends in `median` or in a `p` and per cents."""
    return 0.5 if key.endswith("median") else int(key.rpartition("p")[2]) / 100


def entries_of(key: str) -> np.ndarray:
    """The numbers that a quantile is of."""
    fields = draw()
    rewards: dict[str, np.ndarray] = fields["rewards"]
    rewards["total"] = np.nan_to_num(rewards["correct"]) + 0.5 * rewards["brief"]
    entries = fields["mask"].sum(axis=1) if key.startswith("completions/") else rewards[key.split("/")[1]]
    return np.asarray(entries[np.isfinite(entries)])


def objective(shift: jax.Array, rollout: Rollout, measured: bool) -> tuple[jax.Array, Measurement | None]:
    """A clipped loss over logprobs that a parameter shifts, and what is measured of a rollout with these logprobs."""
    mask, logp = jnp.asarray(rollout.mask), jnp.asarray(rollout.logp) + shift
    ratio = jnp.exp(jnp.where(mask, logp - jnp.asarray(rollout.old_logp), 0.0))
    gain = jnp.minimum(ratio, 1.2) * jnp.asarray(rollout.advantages)[:, None]
    loss = -jnp.sum(jnp.where(mask, gain, 0.0)) / jnp.sum(mask, dtype=jnp.float32)
    return loss, statistics(replace(rollout, logp=logp)).finished() if measured else None


def test_a_jitted_step_returns_a_measurement_beside_its_gradient() -> None:
    """As auxiliary output, with the values of `measure` outside; loss and gradient are the same bits without it."""
    step = jax.jit(jax.value_and_grad(objective, has_aux=True), static_argnums=2)
    rollout = Rollout(**on_device(draw()))
    (loss, measurement), gradient = step(jnp.zeros(()), rollout, True)
    (bare_loss, _), bare_gradient = step(jnp.zeros(()), rollout, False)
    assert_same(measurement.values(), whole())
    assert finished(measurement) is measurement
    assert np.isfinite(loss)
    assert gradient != 0
    assert (loss.tobytes(), gradient.tobytes()) == (bare_loss.tobytes(), bare_gradient.tobytes())


def test_a_scan_over_micro_batches_gives_what_the_whole_gives() -> None:
    """Of all families: stacked by the scan, then merged."""

    @jax.jit
    def step(micro: Rollout) -> Measurement:
        _, stacked = jax.lax.scan(lambda carry, part: (carry, micro_statistics(part)), None, micro)
        merged: Statistics = stacked.merged()
        return merged.finished()

    assert_merged(step(micro_batches()).values(), whole())


def test_statistics_are_made_inside_vmap_and_in_the_carry_of_a_scan() -> None:
    """Two more ways to go through micro-batches."""
    families = frozenset({"advantages", "throughput"})

    def of(part: Rollout) -> Statistics:
        return micro_statistics(part, families)

    @jax.jit
    def step(micro: Rollout) -> tuple[Measurement, Measurement]:
        first, rest = (jax.tree.map(lambda leaf, which=which: leaf[which], micro) for which in (0, slice(1, None)))
        carried, _ = jax.lax.scan(lambda carry, part: (merge(carry, of(part)), None), of(first), rest)
        return jax.vmap(of)(micro).merged().finished(), carried.finished()

    for measurement in step(micro_batches()):
        assert_merged(measurement.values(), whole(families))


@pytest.mark.parametrize("place", [lambda fields: fields, on_device], ids=["host", "device"])
def test_several_rollouts_are_measured_as_one_step(place: Any) -> None:
    """The parts of a step, of two sizes; their arrays lie on the host or on the device."""
    families = frozenset({"completions"})
    head, tail = rows(draw(), slice(8)), rows(draw(), slice(8, None))
    tail["group_ids"] = tail["group_ids"] - tail["group_ids"].min()
    found = measure([Rollout(**place(head)), Rollout(**place(tail))], families=families)
    assert_merged(found.values(), whole(families))


@pytest.mark.parametrize(
    ("lacking", "named"),
    [("old_logp", r"policy/kl_old_k1.*policy/ratio_mean"), ("group_ids", "groups"), ("mask", "policy")],
)
def test_parts_with_different_fields_are_refused_by_name(lacking: str, named: str) -> None:
    """Whether a whole family needs the field or can do without it."""
    with pytest.raises(RolloutError, match=rf"same fields.*{named}"):
        measure([Rollout(**draw()), without(lacking)], families=frozenset({"groups", "policy"}))


def test_parts_with_groups_of_different_sizes_are_refused() -> None:
    """The size is part of what is compiled; a step without any part is refused as well."""
    with pytest.raises(RolloutError, match="the same group_size"):
        measure([Rollout(rewards={"a": np.zeros(4)}, group_size=size) for size in (2, 4)])
    with pytest.raises(RolloutError):
        measure([])


def test_groups_are_named_by_ids_or_by_their_size() -> None:
    """Interleaved rows with ids are measured as consecutive rows with a size."""
    families = frozenset({"groups", "throughput"})
    interleaved = rows(draw(), np.arange(BATCH).reshape(-1, GROUP_SIZE).T.ravel())
    sized = replace(without("group_ids"), group_size=GROUP_SIZE)
    assert_same(measure(Rollout(**interleaved), families=families).values(), whole(families))
    assert_same(measure(sized, families=families).values(), whole(families))


def test_measuring_inside_a_jitted_step_says_what_to_do() -> None:
    """The arrays, or their statistics, are to be returned from the step."""

    @jax.jit
    def step(logp: jax.Array) -> Measurement:
        return measure(replace(Rollout(**draw()), logp=logp))

    with pytest.raises(RolloutError, match=r"logp is traced.*Return its arrays, or what toolkit\.statistics makes"):
        step(jnp.zeros((BATCH, TIME)))


def test_a_user_who_computes_in_double_precision_gets_the_same_metrics() -> None:
    """In float32, whatever comes in and whatever JAX's default is."""
    with jax.enable_x64(True):
        fields = {name: value.astype(np.float64) if name == "logp" else value for name, value in draw().items()}
        traced = jax.eval_shape(lambda: statistics(Rollout(**on_device(fields))).finished())
    assert traced.vector.dtype == jnp.float32
    assert {column.key for column in traced.columns} == keys()


def test_a_family_that_is_off_is_not_computed() -> None:
    """Its keys are gone, and so is its part of the program."""

    def program(families: frozenset[str]) -> tuple[set[str], int]:
        traced = jax.make_jaxpr(lambda part: statistics(part, families=families).finished(), return_shape=True)
        jaxpr, measurement = traced(Rollout(**on_device(draw())))
        return {column.key for column in measurement.columns}, str(jaxpr).count(" = ")

    on, whole_program = program(ALL)
    off, smaller_program = program(ALL - {"policy"})
    assert on - off == {key for key in on if key.startswith("policy/")}
    assert off < on
    assert smaller_program < whole_program - 100


# A field; the metrics that are gone without it, as prefixes or whole keys.
NEEDED_BY = {
    "ref_logp": ("policy/kl_ref_k", "policy/kl_ref_clamped"),
    "ref_kl": ("policy/kl_ref_exact",),
    "init_logp": ("policy/kl_init",),
    "old_logp": ("policy/kl_old", "policy/ratio", "policy/clip", "policy/ess", "policy/chi2"),
    "sampler_logp": ("sampler/",),
    "truncated": ("completions/terminated", "completions/truncated"),
    "group_ids": ("groups/", "rewards/correlation_within", "throughput/examples"),
    "advantages": ("advantages/", "policy/clip", "policy/logp_advantage_covariance"),
    "rewards": ("rewards/", "groups/", "completions/length_correct", "completions/length_incorrect",
                "completions/length_reward", "policy/entropy_correct", "policy/entropy_incorrect"),
    "mask": ("policy/", "sampler/", "completions/", "advantages/positive_token_share", "throughput/tokens"),
}  # fmt: skip
BY_GROUP = ("/within_std", "/between_std", "/signal_share")


@pytest.mark.parametrize("field", NEEDED_BY)
def test_a_missing_field_takes_only_what_needs_it(field: str) -> None:
    """Every other metric stays."""
    every = keys()
    needing = {key for key in every if key.startswith(NEEDED_BY[field])}
    needing |= {key for key in every if field == "group_ids" and key.endswith(BY_GROUP)}
    assert every - keys(field, *(("weights",) if field == "rewards" else ())) == needing


def test_missing_names_the_fields_that_a_family_lacks() -> None:
    """Either of two alternatives is enough, and what a family can do without is not missed."""
    required = {family: tuple(need for need in needs if need[-1] != "?") for family, needs in NEEDS.items()}
    assert missing(Rollout(**draw()), ALL) == {}
    assert missing(Rollout(), ALL) == {family: needs for family, needs in required.items() if needs}
    assert "policy" not in missing(without("entropy", "ref_kl"), ALL)
    assert "policy" not in missing(without("logp", "entropy"), ALL)
    assert missing(without("logp", "entropy", "ref_kl"), ALL) == {"policy": ("logp|entropy|ref_kl",)}
    assert missing(without("logp", "old_logp"), frozenset({"sampler"})) == {"sampler": ("old_logp|logp",)}
    assert missing(Rollout(rewards={}), frozenset({"rewards", "memory"})) == {"rewards": ("rewards",)}


@pytest.mark.parametrize("family", sorted(NEEDS))
def test_a_family_reads_no_more_than_the_fields_that_it_names(family: str) -> None:
    """Held by these names alone, a rollout gives all that the whole one gives."""
    families = frozenset({family})
    named = fields_read(families)
    unread = set(draw()) - named - ({"weights"} if "rewards" in named else set())
    assert keys(*unread, families=families) == keys(families=families)


def every_field(batch: int, time: int) -> Rollout:
    """A rollout of this size with the fields of all families."""
    by_row, by_token, ids = np.zeros(batch, np.float32), np.zeros((batch, time), np.float32), np.zeros(batch, int)
    tokens: Fields = {name: by_token for name, value in draw().items() if np.ndim(value) == 2}
    return Rollout(rewards={"a": by_row}, advantages=by_row, group_ids=ids, truncated=by_row, **tokens)


def test_batches_and_lengths_that_change_every_step_compile_a_few_times() -> None:
    """Batches of 1 to 256 and lengths of 1 to 1,024 fall into three times three buckets.

    Of the cheapest family the values are checked; of all together what JAX would compile anew for.
    """
    random, before, sizes, signatures = np.random.default_rng(0), compilations(), set(), set()
    for _ in range(200):
        batch, time = (int(np.ceil(2 ** random.uniform(0, most))) for most in (8, 10))
        sizes.add((batch, time))
        mask = random.random((batch, time)) < 0.5
        found = measure(Rollout(mask=mask), families=frozenset({"throughput"})).values()
        assert found == {"throughput/completions": batch, "throughput/tokens": mask.sum()}
        plan = planned(every_field(batch, time), None, None)
        leaves, structure = jax.tree.flatten(inputs(every_field(batch, time), plan, 0))
        signatures.add((plan, structure, *((leaf.shape, leaf.dtype) for leaf in leaves)))
    assert len(sizes) > 150
    assert {plan.families for plan, *_ in signatures} == {ALL}
    assert len(signatures) == 9
    assert compilations() - before <= 9


def test_nothing_to_measure_is_no_error() -> None:
    """A rollout without the fields of any family that is due gives no values."""
    assert measure(Rollout(completions=["a"]), families=frozenset({"policy"})).values() == {}
