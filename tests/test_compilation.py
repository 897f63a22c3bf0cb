"""How often our computations were compiled."""

import jax
import jax.numpy as jnp

from toolkit.compilation import compilations, count_compilation


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
