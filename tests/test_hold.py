"""Taking hold of a rollout: what is held outlives what the training thread does next."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from toolkit.compilation import compilations
from toolkit.errors import RolloutError
from toolkit.hold import hold, hold_all, joined
from toolkit.measure import measure
from toolkit.rollout import Rollout

BATCH, TIME = 4, 3
FAMILIES = frozenset({"groups", "throughput"})


def on_device() -> dict[str, Any]:
    """Device arrays of every kind: of a reward, a mask, whole numbers, and half precision."""
    return {
        "rewards": {"a": jnp.arange(4.0), "b": jnp.zeros(4)},
        "mask": jnp.ones((BATCH, TIME), bool),
        "group_ids": jnp.array([0, 0, 1, 1]),
        "logp": jnp.full((BATCH, TIME), -0.5, jnp.bfloat16),
        "advantages": jnp.linspace(-1.0, 1.0, BATCH),
    }


def donate(fields: dict[str, Any]) -> list[jax.Array]:
    """The host's next step: it takes the buffers of all arrays and writes into them."""
    step = jax.jit(lambda taken: [jnp.ones_like(array) for array in taken], donate_argnums=0, keep_unused=True)
    return [step([leaf])[0] for leaf in jax.tree.leaves(fields)]


def test_a_tensor_of_torch_is_held_as_it_was() -> None:
    """Also where the loop writes over it, as over a buffer, and where it has a gradient."""
    buffer, loss = torch.ones(BATCH), torch.full((BATCH,), 2.0, requires_grad=True)
    held = hold_all({"buffer": buffer, "loss": loss})
    buffer.zero_()
    assert {name: np.asarray(tensor).tolist() for name, tensor in held().items()} == {
        "buffer": [1.0] * BATCH,
        "loss": [2.0] * BATCH,
    }


def test_what_is_held_survives_a_donation() -> None:
    """All arrays keep their values and types, and are measured by what was compiled for the originals."""
    fields = on_device()
    expected, compiled = measure(Rollout(**fields), families=FAMILIES).values(), compilations()
    later = hold(Rollout(**fields))
    written = donate(fields)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(fields))
    held = later()
    for mine, original in zip(jax.tree.leaves(held), jax.tree.leaves(Rollout(**on_device())), strict=True):
        assert mine.dtype == original.dtype
        np.testing.assert_array_equal(mine, original)
    assert measure(held, families=FAMILIES).values() == expected
    assert expected["throughput/tokens"] == BATCH * TIME
    assert compilations() == compiled
    assert len(written) == len(jax.tree.leaves(fields))


def test_what_was_donated_before_cannot_be_held() -> None:
    """The field is named, but only if it is asked for."""
    fields = on_device()
    donate({"logp": fields["logp"]})
    with pytest.raises(RolloutError, match=r"logp was donated.*Observe the rollout before"):
        hold(Rollout(**fields))
    held = hold(Rollout(**fields), {"mask", "rewards"})()
    assert held.logp is None
    donate({"b": fields["rewards"]["b"]})
    with pytest.raises(RolloutError, match=r"rewards\['b'\] was donated"):
        hold(Rollout(**fields), {"rewards"})


@pytest.mark.parametrize("field", ["logp", "rewards"])
def test_a_traced_rollout_cannot_be_held(field: str) -> None:
    """Held inside a jitted step it would leak tracers; the error says what to do instead."""

    @jax.jit
    def step(traced: dict[str, Any]) -> jax.Array:
        hold(Rollout(**traced))
        return jnp.zeros(())

    with pytest.raises(RolloutError, match=rf"{field}.* is traced.*Return its arrays"):
        step({field: on_device()[field]})


def test_what_the_host_writes_over_is_copied() -> None:
    """Arrays of NumPy and lists; texts, sizes and timings are kept as they are."""
    logp, mask, reward = np.full((2, 3), -1.0, np.float16), np.ones((2, 3), bool), [1.0, None]
    later = hold(
        Rollout(
            rewards={"a": reward}, weights=MappingProxyType({"a": 0.5}), logp=logp, mask=mask, group_size=2,
            completions=["x", "y"], timings={"generation_s": 1.0}, latencies={"a": 0.1},
        )
    )  # fmt: skip
    logp[:], mask[:], reward[0] = 0, False, 5.0
    held = later()
    np.testing.assert_array_equal(held.logp, np.full((2, 3), -1.0, np.float16), strict=True)
    np.testing.assert_array_equal(held.mask, np.ones((2, 3), bool), strict=True)
    assert held.rewards == {"a": [1.0, None]}
    assert (held.weights, held.group_size, held.completions) == ({"a": 0.5}, 2, ["x", "y"])
    assert (held.timings, held.latencies) == ({"generation_s": 1.0}, {"a": 0.1})


def test_only_the_names_that_are_asked_for_are_held() -> None:
    """Other arrays are left out; weights go with the rewards."""
    whole = Rollout(**on_device(), weights={"a": 2.0}, completions=["x"] * BATCH)
    narrowed = hold(whole, {"mask", "offsets"})()
    assert narrowed.mask is not None
    assert (narrowed.logp, narrowed.group_ids, narrowed.rewards, narrowed.weights) == (None, None, {}, None)
    assert narrowed.completions == whole.completions
    assert hold(whole, {"rewards"})().weights == {"a": 2.0}
    assert hold(whole, set())().completions == whole.completions


@pytest.mark.parametrize("fields", [{"rewards": {}}, {}, {"rewards": {}, "completions": ["x"]}])
def test_a_rollout_without_arrays_can_be_held(fields: dict[str, Any]) -> None:
    """Also one whose rewards are an empty mapping; nothing is made up."""
    held = hold(Rollout(**fields))()
    assert held.rewards == {}
    assert held.completions == fields.get("completions")
    assert not jax.tree.leaves(held)


@pytest.mark.parametrize("of", [jnp.asarray, np.asarray, list], ids=["device", "host", "list"])
def test_parts_are_joined_by_completion(of: Callable[[Any], Any]) -> None:
    """Rewards and texts follow each other, times add, and tokens and group ids stay behind."""
    first = Rollout(
        rewards={"a": of([1.0, 2.0]), "b": of([0.0, 1.0])}, weights={"a": 0.5}, group_size=2, completions=["x", "y"],
        logp=jnp.zeros((2, TIME)), timings={"generation_s": 1.0}, latencies={"a": 0.25},
    )  # fmt: skip
    second = Rollout(
        rewards={"a": of([3.0, 4.0]), "b": of([0.5, 0.5])}, weights={"a": 0.5}, group_size=2, completions=["z", ""],
        timings={"generation_s": 2.0, "train_s": 4.0},
    )  # fmt: skip
    whole = joined([first, second])
    assert {name: np.asarray(reward).tolist() for name, reward in whole.rewards.items()} == {
        "a": [1, 2, 3, 4], "b": [0, 1, 0.5, 0.5]
    }  # fmt: skip
    assert (whole.weights, whole.group_size, whole.logp) == ({"a": 0.5}, 2, None)
    assert (whole.completions, whole.prompts) == (["x", "y", "z", ""], None)
    assert (whole.timings, whole.latencies) == ({"generation_s": 3, "train_s": 4}, {"a": 0.25})


def test_a_single_part_is_the_whole() -> None:
    """Nothing is lost of it; and parts without rewards or texts make a whole without any."""
    part = Rollout(**on_device())
    assert joined([part]) is part
    whole = joined([Rollout(timings={"train_s": 1.0})] * 2)
    assert (whole.rewards, whole.completions, whole.timings) == ({}, None, {"train_s": 2})


def test_a_reward_that_was_not_given_stays_so_in_the_whole() -> None:
    """None becomes NaN."""
    whole = joined([Rollout(rewards={"a": [1.0, None]}), Rollout(rewards={"a": [None, 2.0]})])
    np.testing.assert_array_equal(whole.rewards["a"], [1, np.nan, np.nan, 2])
