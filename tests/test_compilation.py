"""How our computations run under JAX: how often they were compiled, and that their NaN is no fault."""

import jax
import jax.numpy as jnp
import pytest

from toolkit.compilation import compilations, count_compilation
from toolkit.hold import hold
from toolkit.measure import measure
from toolkit.rollout import Rollout


def test_a_computation_counts_once_a_shape() -> None:
    """Two shapes and two types of one function are three compilations, however often each is called."""

    @jax.jit
    def doubled(x: jax.Array) -> jax.Array:
        count_compilation()
        return x + x

    before = compilations()
    counts = []
    for x in (jnp.zeros(3), jnp.ones(3), jnp.zeros(4), jnp.zeros(3), jnp.zeros(3, jnp.int32), jnp.zeros(4)):
        doubled(x)
        counts.append(compilations() - before)
    assert counts == [1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("switch", ["jax_debug_nans", "jax_debug_infs"])
def test_a_nan_of_ours_does_not_stop_who_looks_for_nans(switch: str) -> None:
    """Where the user lets JAX raise at the first NaN, a mean over nothing is still no value, and a reward may lack."""
    rollout = Rollout(rewards={"correct": jnp.array([jnp.nan, 1.0])}, mask=jnp.zeros((2, 3), bool))
    jax.config.update(switch, True)
    try:
        found = measure(hold(rollout)(), families=frozenset({"rewards", "completions"})).values()
    finally:
        jax.config.update(switch, False)
    assert found["rewards/correct/mean"] == 1.0
    assert found["rewards/correct/coverage"] == 0.5
