"""The rollout: what `arrays` makes of it, and what it says when the fields do not fit."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.errors import RolloutError
from toolkit.rollout import Arrays, Rollout, arrays, bucket

BATCH, TIME = 6, 10
REWARDS = {"correct": np.linspace(0, 1, BATCH)}
BY_TOKEN = np.zeros((BATCH, TIME), np.float32)


def donated(x: jax.Array) -> jax.Array:
    """The array after a computation took its buffer."""
    jax.jit(lambda taken: taken + 1, donate_argnums=0)(x)
    return x


# What is wrong; the fields; what the message must say.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "reward of another length": (
        {"mask": BY_TOKEN, "rewards": {"a": np.zeros(5)}},
        r"rewards\['a'\] has 5 rows, but mask has 6",
    ),
    "two rewards of two lengths": ({"rewards": {"a": np.zeros(6), "b": [1.0]}}, r"rewards\['b'\] has 1 rows"),
    "reward with two axes": ({"rewards": {"a": np.zeros((6, 1))}}, r"shape \(6, 1\): expected \[batch\]"),
    "reward without an axis": ({"rewards": {"a": 1.0}}, r"shape \(\): expected \[batch\]"),
    "mask of another shape": (
        {"logp": BY_TOKEN, "mask": np.ones((6, 9), bool)},
        r"logp has shape \(6, 10\), but mask has \(6, 9\)",
    ),
    "mask with one axis": ({"mask": np.ones(6, bool)}, r"mask has shape \(6,\): expected \[batch, time\]"),
    "device mask with one axis": ({"mask": jnp.ones(6, bool)}, r"mask has shape \(6,\): expected \[batch, time\]"),
    "advantages of another time": (
        {"mask": BY_TOKEN, "advantages": np.zeros((6, 9))},
        r"advantages has shape \(6, 9\), but mask has \(6, 10\)",
    ),
    "advantages with three axes": (
        {"advantages": np.zeros((6, 2, 2))},
        r"expected \[batch\] or \[batch, time\], a row a completion",
    ),
    "truncated with two axes": ({"truncated": np.zeros((6, 1), bool)}, r"truncated has shape \(6, 1\)"),
    "group ids with two axes": ({"rewards": REWARDS, "group_ids": np.zeros((6, 1), int)}, "group_ids has shape"),
    "group ids out of range": ({"rewards": REWARDS, "group_ids": [0, 0, 0, 9, 9, 9]}, r"whole numbers in 0\.\.5"),
    "group ids below zero": ({"rewards": REWARDS, "group_ids": [0, 0, 0, -1, 1, 1]}, r"whole numbers in 0\.\.5"),
    "group ids that are no integers": ({"rewards": REWARDS, "group_ids": [0.5] * 6}, "whole numbers"),
    "group size that does not divide": ({"rewards": REWARDS, "group_size": 4}, "group_size 4 does not divide the 6"),
    "group size of zero": ({"rewards": REWARDS, "group_size": 0}, "group_size 0 does not divide"),
    "unknown weight": ({"rewards": REWARDS, "weights": {"corect": 2.0}}, r"weights name \['corect'\].*\['correct'\]"),
    "weight that is no number": ({"rewards": REWARDS, "weights": {"correct": "big"}}, r"weights\['correct'\] is not"),
    "reward named total": ({"rewards": {"total": np.zeros(6)}}, "cannot be named 'total'"),
    "words for a reward": ({"rewards": {"a": ["good", "bad"]}}, r"rewards\['a'\] is not an array of numbers"),
    "objects for a reward": ({"rewards": {"a": [object()]}}, "is not an array of numbers"),
    "ragged logprobs": ({"logp": [[1.0], [1.0, 2.0]]}, "logp is not an array of numbers"),
    "nothing": ({}, "the rollout is empty"),
    "no rewards": ({"rewards": {}, "group_size": 2}, "the rollout is empty"),
    "no rows": ({"rewards": {"a": []}}, "the rollout is empty"),
    "completions of another length": (
        {"rewards": REWARDS, "completions": ["a"] * 5},
        r"completions has 5 rows, but rewards\['correct'\] has 6",
    ),
    "references of another length": ({"completions": ["a"] * 6, "references": ["a"]}, "references has 1 rows"),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_named(fields: dict[str, Any], message: str) -> None:
    """The field, its shape, and the one that it disagrees with."""
    with pytest.raises(RolloutError, match=message):
        arrays(Rollout(**fields))


def test_a_donated_array_is_named_and_says_what_to_do() -> None:
    """Also when it is a reward or a weight."""
    for fields, name in (
        ({"logp": donated(jnp.zeros((BATCH, TIME)))}, "logp"),
        ({"rewards": {"a": donated(jnp.zeros(BATCH))}}, r"rewards\['a'\]"),
        ({"rewards": {"a": jnp.zeros(BATCH)}, "weights": {"a": donated(jnp.float32(1))}}, r"weights\['a'\]"),
    ):
        with pytest.raises(RolloutError, match=f"{name} was donated.*Observe the rollout before"):
            arrays(Rollout(**fields))


def inside_scan(observe: Callable[[jax.Array], jax.Array], x: jax.Array) -> None:
    """Call the function on a tracer of a scan."""
    jax.lax.scan(lambda carry, row: (carry, observe(row)), 0, x[None])


@pytest.mark.parametrize(
    "transform",
    [lambda f, x: jax.jit(f)(x), lambda f, x: jax.grad(lambda y: f(y).sum())(x), inside_scan],
    ids=["jit", "grad", "scan"],
)
def test_a_traced_array_is_named_and_says_what_to_do(transform: Callable[..., None]) -> None:
    """Observing inside of a transformation is refused at its first array."""

    def observe(x: jax.Array) -> jax.Array:
        arrays(Rollout(rewards={"a": x}))
        return x

    with pytest.raises(RolloutError, match=r"rewards\['a'\] is traced.*Return its arrays, or what"):
        transform(observe, jnp.zeros(BATCH))


def test_host_arrays_are_padded_to_buckets_and_masked() -> None:
    """Rows to 16, 64, ... and tokens to 64, 256, ...: rows that were added are no completions and keep no token."""
    given = Rollout(
        rewards={"b": [1, None, 0.5, None, 2.0, 3], "a": np.arange(BATCH)}, weights={"a": 2}, group_size=3,
        truncated=np.array([0, 1, 0, 0, 0, 1]), group_ids=np.array([3, 3, 3, 0, 0, 0]),
        mask=np.ones((BATCH, TIME), int), logp=np.full((BATCH, TIME), -1.0), advantages=np.arange(BATCH),
        offsets=np.ones((BATCH, TIME), int), completions=["é", "b" * 20, "", "", "", ""],
    )  # fmt: skip
    found = arrays(given)
    assert {name: value.shape for name, value in found.items() if name != "rewards"} == {
        "mask": (16, 64), "logp": (16, 64), "offsets": (16, 64), "advantages": (16,), "truncated": (16,),
        "group_ids": (16,), "rows": (16,), "weights": (2,),
    }  # fmt: skip
    assert {str(value.dtype) for value in jax.tree.leaves(found)} == {"bool", "float32"}
    assert found["rows"].tolist() == [True] * BATCH + [False] * 10
    assert found["mask"].sum() == BATCH * TIME
    assert found["group_ids"].tolist() == [3] * 3 + [0] * 13  # as they were given
    np.testing.assert_array_equal(found["rewards"]["b"][:BATCH], [1, np.nan, 0.5, np.nan, 2, 3])


def test_weights_stand_in_the_order_of_the_names_of_the_rewards() -> None:
    """Which is JAX's own for the keys of a mapping; a weight that is not given is 1."""
    found = arrays(Rollout(rewards={"c": np.zeros(2), "a": np.ones(2), "b": np.ones(2)}, weights={"c": 3, "a": 2}))
    assert list(found["rewards"]) == ["a", "b", "c"]
    np.testing.assert_array_equal(found["weights"], np.array([2, 1, 3], np.float32), strict=True)


def test_buckets_beyond_the_smallest_are_powers_of_four() -> None:
    """Of rows and of tokens."""
    found = arrays(Rollout(mask=np.ones((17, 65), bool)))
    assert found["mask"].shape == (64, 256)
    assert found["rows"].sum() == 17


def test_host_arrays_are_copies() -> None:
    """What the loop writes into its buffers afterwards changes no measurement."""
    logp, rewards = BY_TOKEN.copy(), np.zeros(BATCH, np.float32)
    found = arrays(Rollout(logp=logp, rewards={"a": rewards}))
    beside_device = arrays(Rollout(logp=logp, rewards={"a": rewards}, advantages=jnp.zeros(BATCH)))
    logp[:], rewards[:] = 5, 5
    for taken in (found, beside_device):
        assert not taken["logp"].any()
        assert not taken["rewards"]["a"].any()


def test_device_arrays_stay_where_and_as_they_are() -> None:
    """Nothing is copied, fetched or padded, and all rows are completions: there is no mask of rows."""
    logp, reward, ids = jnp.zeros((BATCH, TIME), jnp.bfloat16), jnp.zeros(BATCH), jnp.zeros(BATCH, jnp.uint8)
    found = arrays(Rollout(logp=logp, rewards={"a": reward}, weights={"a": jnp.float32(2)}, group_ids=ids))
    assert found.keys() == {"logp", "rewards", "weights", "group_ids"}
    assert found["logp"] is logp
    assert found["rewards"]["a"] is reward
    assert found["group_ids"] is ids
    assert found["weights"].tolist() == [2]


def test_traced_arrays_are_taken_where_that_is_allowed() -> None:
    """Inside of a user's own step, beside arrays of the host, which become part of it."""

    @jax.jit
    def shapes(logp: jax.Array) -> Arrays:
        return arrays(Rollout(logp=logp, mask=BY_TOKEN, rewards={"a": logp[:, 0]}), traced=True)

    found = shapes(jnp.ones((BATCH, TIME)))
    assert found["logp"].shape == found["mask"].shape == (BATCH, TIME)
    assert found["rewards"]["a"].sum() == BATCH
    assert "rows" not in found


def test_buckets_are_few_and_hold_what_they_are_for() -> None:
    """Powers of four from sixteen, or from another size by another factor."""
    sizes = [bucket(size) for size in range(1025)]
    assert sorted(set(sizes)) == [16, 64, 256, 1024]
    assert all(held >= size and held <= max(16, 4 * size) for size, held in enumerate(sizes))
    assert (bucket(16), bucket(17), bucket(64), bucket(65)) == (16, 64, 64, 256)
    assert (bucket(0), bucket(5, 1, 2), bucket(8, 1, 2)) == (16, 8, 8)


def test_a_rollout_may_be_returned_by_a_jitted_step() -> None:
    """Arrays are computed, texts, sizes and timings pass as they are, and what is not given stays so."""
    completions, timings = ["one", "two", "three", "four", "five", "six"], {"generation_s": 1.5}

    @jax.jit
    def step(logp: jax.Array) -> Rollout:
        return Rollout(
            rewards={"b": logp[:, 0], "a": logp[:, 1]}, weights={"a": 0.5}, logp=logp * 2, mask=logp < 0,
            group_size=3, completions=completions, timings=timings,
        )  # fmt: skip

    logp = jnp.linspace(-1.0, 1.0, BATCH * TIME).reshape(BATCH, TIME)
    for _ in range(2):  # traced, and then from the cache
        returned = step(logp)
        np.testing.assert_allclose(returned.logp, logp * 2)
        np.testing.assert_allclose(returned.rewards["b"], logp[:, 0])
        assert (returned.completions, returned.timings, returned.group_size) == (completions, timings, 3)
        assert returned.old_logp is returned.advantages is None
        found = arrays(returned)
        assert (list(found["rewards"]), found["weights"].tolist()) == (["a", "b"], [0.5, 1])
        assert found["mask"].dtype == bool


def test_a_rollout_loads_no_torch() -> None:
    """A Flax loop pays for nothing that it does not use."""
    code = (
        "import sys; from toolkit.rollout import Rollout, arrays; "
        "arrays(Rollout(rewards={'a': [1, None]}, completions=['x', 'y'])); "
        "sys.exit(bool({'torch', 'flax', 'transformers', 'tensorboard'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
