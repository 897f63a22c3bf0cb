"""`measure`: the families as one computation, what it leaves out, and how seldom it compiles."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toolkit.measure as measuring
from toolkit.config import Metrics
from toolkit.errors import RolloutError
from toolkit.measure import NEEDS, Measurement, compilations, measure, missing
from toolkit.metrics.advantages import advantage_metrics
from toolkit.metrics.completions import completion_metrics
from toolkit.metrics.format import format_metrics
from toolkit.metrics.groups import group_metrics
from toolkit.metrics.policy import policy_metrics, sampler_metrics
from toolkit.metrics.reduction import Bins
from toolkit.metrics.rewards import reward_metrics
from toolkit.record import Histogram, Value
from toolkit.rollout import Arrays, Rollout, arrays, hold, utf8

BATCH, TIME, GROUP_SIZE = 6, 10, 3
SETTINGS = Metrics()
EVERYTHING = SETTINGS.due(0)
Fields = dict[str, Any]


def draw(batch: int = BATCH, time: int = TIME) -> Fields:
    """Every field of a rollout as NumPy arrays, with rewards and a judgement missing and NaN behind the mask."""
    random = np.random.default_rng(0)
    mask = np.arange(time) < random.integers(1, time + 1, batch)[:, None]

    def by_token(low: float, high: float) -> np.ndarray:
        return np.where(mask, random.uniform(low, high, mask.shape), np.nan).astype(np.float32)

    correct = random.choice([0.0, 1.0], batch).astype(np.float32)
    correct[1] = np.nan
    return {
        "rewards": {"correct": correct, "brief": random.normal(size=batch).astype(np.float32)},
        "weights": {"brief": 0.5},
        "advantages": random.normal(size=batch).astype(np.float32),
        "group_size": batch // 2,
        "mask": mask,
        "truncated": mask[:, -1],
        "completions": ["<reasoning>a</reasoning><answer>4</answer>", "<answer>é</answer>"] * (batch // 2),
        "entropy": by_token(0, 2),
        **{name: by_token(-3, -0.1) for name in ("logp", "old_logp", "ref_logp", "sampler_logp")},
    }


def on_device(fields: Fields) -> Fields:
    """The same fields with every array on the device."""
    return {name: jax.tree.map(_on_device, value) for name, value in fields.items()}


def _on_device(leaf: Any) -> Any:
    return jnp.array(leaf) if isinstance(leaf, np.ndarray) else leaf


def without(fields: Fields, *names: str) -> Rollout:
    """A rollout of all fields but these."""
    return Rollout(**{name: value for name, value in fields.items() if name not in names})


def keys(rollout: Rollout, settings: Metrics = SETTINGS) -> set[str]:
    """What would be measured; traced, but neither compiled nor computed."""
    have, families = inputs(rollout, settings)
    traced = jax.eval_shape(lambda have: measuring._packed(have, settings, families), have)
    return {column.key for column in traced.columns}


def inputs(rollout: Rollout, settings: Metrics) -> tuple[Arrays, frozenset[str]]:
    """What the compiled function is given."""
    families = settings.due(0).intersection(NEEDS).difference(missing(rollout, settings.due(0)))
    return {**arrays(rollout, "format" in families), "step_s": np.float32(2.0)}, families


def assert_same(found: Mapping[str, Value], expected: Mapping[str, Value], rtol: float = 1e-6) -> None:
    """The same keys, and the same values up to rounding."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        other = found[key]
        if isinstance(value, Histogram) and isinstance(other, Histogram):
            np.testing.assert_array_equal(other.counts, value.counts, err_msg=key)
            np.testing.assert_array_equal(other.edges, value.edges, err_msg=key)
        else:
            assert other == pytest.approx(value, rel=rtol, abs=1e-6), key


@jax.jit
def families_by_hand(fields: Fields, text: jax.Array, text_length: jax.Array) -> dict[str, jax.Array | Bins]:
    """The functions of the families, called with what each of them needs."""
    rows, mask, rewards = jnp.ones(BATCH, bool), fields["mask"], fields["rewards"]
    group = jnp.arange(BATCH, dtype=jnp.int32) // GROUP_SIZE
    brief = jnp.where(jnp.isnan(rewards["brief"]), 0.0, 0.5 * rewards["brief"])
    total = jnp.where(jnp.isnan(rewards["correct"]), 0.0, rewards["correct"]) + brief
    success = jnp.where(jnp.isnan(rewards["correct"]), jnp.nan, (rewards["correct"] > 0.5).astype(jnp.float32))
    taken = {name: fields[name] for name in ("logp", "old_logp", "ref_logp", "entropy", "advantages")}
    return {
        **reward_metrics(rewards, {"correct": jnp.float32(1), "brief": jnp.float32(0.5)}, rows, group),
        **group_metrics(total, group, rows, success, SETTINGS.groups.pass_at),
        **advantage_metrics(fields["advantages"], rows, mask),
        **policy_metrics(mask, **taken, clip=(SETTINGS.policy.clip_low, SETTINGS.policy.clip_high)),
        **sampler_metrics(mask, fields["old_logp"], fields["sampler_logp"]),
        **completion_metrics(mask, rows, fields["truncated"], total, success),
        **format_metrics(text, text_length, rows, SETTINGS.format.tags),
    }


def test_every_value_is_its_familys_and_padding_changes_none() -> None:
    """Arrays of the host, padded to a bucket, against the families called on device arrays of the very shape."""
    found = measure(Rollout(**draw()), SETTINGS, EVERYTHING).values()
    fields = on_device(draw())
    given = {name: value for name, value in fields.items() if name not in ("completions", "weights", "group_size")}
    by_hand = families_by_hand(given, *(jnp.asarray(array) for array in utf8(fields["completions"])))
    expected: dict[str, Value] = {}
    for key, value in by_hand.items():
        if isinstance(value, Bins):
            expected[key] = Histogram(np.asarray(value.counts), np.array(value.edges))
        elif not np.isnan(value):
            expected[key] = float(value)
    assert_same(found, expected)
    assert len(expected) > 60


def test_host_and_device_arrays_give_the_same_values() -> None:
    """Here at the size of a bucket, so that both run the same program: it is compiled once."""
    fields = draw(16, 16)
    on_host = measure(Rollout(**fields), step_s=2.0).values()
    before = compilations()
    assert_same(measure(Rollout(**on_device(fields)), step_s=2.0).values(), on_host)
    assert compilations() == before
    assert on_host["throughput/completions_per_s"] == 16 / 2
    assert on_host["throughput/examples_per_s"] == 2 / 2
    assert on_host["throughput/tokens_per_s"] == fields["mask"].sum() / 2


def test_group_ids_and_sizes_name_the_same_groups() -> None:
    """Interleaved rows with ids are measured as consecutive rows with a size."""
    fields = draw()
    order = np.array([0, 3, 1, 4, 2, 5])
    shuffled = {name: jax.tree.map(lambda x: x[order] if isinstance(x, np.ndarray) else x, value)
                for name, value in fields.items()}  # fmt: skip
    shuffled["completions"] = [fields["completions"][row] for row in order]
    shuffled |= {"group_size": None, "group_ids": order // GROUP_SIZE}
    assert_same(measure(Rollout(**shuffled)).values(), measure(Rollout(**fields)).values(), rtol=1e-5)


def test_a_measurement_is_one_vector() -> None:
    """One transfer a step: a single float32 leaf, with a static table beside it."""
    measurement = measure(Rollout(**draw()))
    (vector,) = jax.tree.leaves(measurement)
    assert vector.dtype == jnp.float32
    assert vector.shape == (sum(column.size for column in measurement.columns),)
    assert "throughput/tokens_per_s" in {column.key for column in measurement.columns}
    assert "throughput/tokens_per_s" not in measurement.values()  # no time was given, so there is no value


def test_a_measurement_passes_through_jit_and_scan() -> None:
    """It is a pytree: a step may carry the last one along."""
    measurement = measure(Rollout(**draw()))

    @jax.jit
    def step(carried: Measurement) -> Measurement:
        return jax.lax.scan(lambda carry, _: (carry, None), carried, length=2)[0]

    assert_same(step(measurement).values(), measurement.values())


def test_measuring_inside_a_jitted_step_says_what_to_do() -> None:
    """The arrays are to be returned from the step and measured outside of it."""
    fields = draw()

    @jax.jit
    def step(logp: jax.Array) -> Measurement:
        return measure(Rollout(**{**fields, "logp": logp}))

    with pytest.raises(RolloutError, match=r"logp is traced.*Return its arrays"):
        step(jnp.zeros((BATCH, TIME)))


def test_a_family_that_is_off_is_not_computed() -> None:
    """Its keys are gone, and so is its part of the program."""

    def program(settings: Metrics) -> tuple[set[str], str]:
        have, families = inputs(Rollout(**draw()), settings)
        lowered = measuring._packed.lower(have, settings, families)
        return keys(Rollout(**draw()), settings), lowered.as_text()

    on, with_format = program(SETTINGS)
    off, without_format = program(
        SETTINGS.model_copy(update={"format": SETTINGS.format.model_copy(update={"enabled": False})})
    )
    assert on - off == {key for key in on if key.startswith("format/")}
    assert off < on
    assert "xui8>" in with_format
    assert "xui8>" not in without_format
    assert without_format.count("stablehlo.compare") < with_format.count("stablehlo.compare") - 50


# A field; the metrics that are gone without it, as prefixes or whole keys.
NEEDED_BY = {
    "ref_logp": ("policy/kl_ref",),
    "old_logp": ("policy/kl_old", "policy/ratio", "policy/clip"),
    "sampler_logp": ("sampler/",),
    "truncated": ("completions/terminated", "completions/truncated"),
    "completions": ("format/",),
    "group_size": ("groups/", "rewards/total/within", "rewards/total/between", "throughput/examples"),
    "advantages": ("advantages/", "policy/clip"),
    "rewards": ("rewards/", "groups/", "completions/length_correct", "completions/length_incorrect",
                "completions/length_reward"),
    "mask": ("policy/", "sampler/", "completions/", "advantages/positive_token_share", "throughput/tokens_per_s"),
}  # fmt: skip


@pytest.mark.parametrize("field", NEEDED_BY)
def test_a_missing_field_takes_only_what_needs_it(field: str) -> None:
    """Every other metric stays."""
    also = ("weights",) if field == "rewards" else ()
    gone = keys(Rollout(**draw())) - keys(without(draw(), field, *also))
    needing = {key for key in keys(Rollout(**draw())) if key.startswith(NEEDED_BY[field])}
    if field == "group_size":
        parts = ("within_std", "between_std", "signal_share")
        needing |= {key for key in keys(Rollout(**draw())) if key.endswith(parts)}
    assert gone == needing


def test_missing_names_the_fields_that_a_family_lacks() -> None:
    """Either of two alternatives is enough."""
    every = frozenset(measuring.NEEDS)
    assert missing(Rollout(**draw()), every) == {}
    assert missing(Rollout(), every) == {
        family: needs for family, needs in measuring.NEEDS.items() if family != "throughput"
    }
    assert "policy" not in missing(without(draw(), "entropy"), every)
    assert "policy" not in missing(without(draw(), "logp"), every)
    assert missing(without(draw(), "logp", "entropy"), every) == {"policy": ("logp|entropy",)}
    assert missing(without(draw(), "logp", "old_logp"), frozenset({"sampler"})) == {"sampler": ("old_logp|logp",)}
    assert missing(Rollout(rewards={}), frozenset({"rewards", "memory"})) == {"rewards": ("rewards",)}


def test_lengths_that_change_every_step_compile_a_few_times() -> None:
    """Batches of 1 to 64 and lengths of 1 to 256 fall into two times three buckets."""
    random, before, seen = np.random.default_rng(0), compilations(), set()
    for _ in range(200):
        batch, time = random.integers(1, 65), random.integers(1, 257)
        seen.add((batch, time))
        mask = random.random((batch, time)) < 0.5
        found = measure(Rollout(mask=mask), families=frozenset({"throughput"}), step_s=0.5).values()
        assert found == {"throughput/completions_per_s": 2 * batch, "throughput/tokens_per_s": 2 * mask.sum()}
    assert len(seen) > 150
    assert compilations() - before <= 6


def test_a_held_rollout_survives_the_donation_of_the_original() -> None:
    """What is held is measured after the next step took the buffers, and by the function compiled for the original."""
    fields = on_device(draw(16, 16))
    expected, compiled = measure(Rollout(**fields)).values(), compilations()
    held = hold(Rollout(**fields))
    arrays = [leaf for leaf in jax.tree.leaves(fields) if isinstance(leaf, jax.Array)]
    take = jax.jit(lambda xs: [x ^ True if x.dtype == bool else x + 1 for x in xs], donate_argnums=0)
    taken = take(arrays)
    assert all(array.is_deleted() for array in arrays)
    assert len(taken) == len(arrays)
    with pytest.raises(RolloutError, match="was donated"):
        hold(Rollout(**fields))
    assert_same(measure(held).values(), expected)
    assert compilations() == compiled


def test_a_held_rollout_keeps_what_the_host_writes_over() -> None:
    """Arrays of NumPy and lists are copied too, and texts are kept as they are."""
    logp, reward = np.full((2, 3), -1.0, np.float32), [1.0, None]
    weights = MappingProxyType({"a": 0.5})
    held = hold(Rollout(rewards={"a": reward}, weights=weights, logp=logp, completions=["x", "y"], group_size=2))
    logp[:] = 0
    reward[0] = 5.0
    assert isinstance(held.logp, np.ndarray)
    assert held.logp.tolist() == [[-1.0] * 3] * 2
    assert held.rewards == {"a": [1.0, None]}
    assert held.completions == ["x", "y"]
    assert held.group_size == 2
    assert held.weights == {"a": 0.5}


def test_a_traced_rollout_cannot_be_held() -> None:
    """Held inside a jitted step it would leak tracers; the error says what to do instead."""

    @jax.jit
    def step(logp: jax.Array) -> jax.Array:
        hold(Rollout(logp=logp))
        return logp

    with pytest.raises(RolloutError, match=r"logp is traced.*Return its arrays"):
        step(jnp.zeros((BATCH, TIME)))


def test_a_users_own_dtypes_are_taken() -> None:
    """Masks of numbers, rewards of integers and statistics in bfloat16 mean what they mean elsewhere."""
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]])
    rollout = Rollout(
        rewards={"correct": jnp.array([0, 1, 1, 1])},
        group_ids=jnp.array([0, 0, 2, 2], jnp.uint8),
        mask=jnp.array(mask, jnp.float32),
        truncated=jnp.array([0, 1, 0, 0]),
        logp=jnp.full((4, 4), -0.5, jnp.bfloat16),
    )
    found = measure(rollout, families=frozenset({"completions", "groups", "policy"})).values()
    expected = {
        "completions/length_mean": 2.5, "completions/truncated_fraction": 0.25, "completions/terminated_length_max": 3,
        "completions/length_correct": 8 / 3, "completions/length_incorrect": 2, "groups/mean": 0.75,
        "groups/pass_at_1": 0.75, "groups/zero_std_fraction": 0.5, "policy/entropy_mc": 0.5,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_without_a_success_reward_nothing_is_called_correct() -> None:
    """Neither pass@k nor the length of correct answers, whatever the rewards are named."""
    settings = Metrics(success={"reward": None})  # type: ignore[arg-type]  # pydantic makes the section of it
    gone = keys(Rollout(**draw())) - keys(Rollout(**draw()), settings)
    assert gone == {
        "groups/pass_at_1", "groups/pass_at_4", "completions/length_correct", "completions/length_incorrect"
    }  # fmt: skip


def test_nothing_to_measure_is_no_error() -> None:
    """A rollout without the fields of any family that is due gives no values."""
    assert measure(Rollout(completions=["a"]), families=frozenset({"policy"})).values() == {}
