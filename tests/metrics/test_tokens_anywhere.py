"""Token statistics within their memory, and wherever JAX runs: under vmap and scan, in a loss, on several devices."""

import os
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.metrics.tokens import TokenStatistics, token_statistics, token_statistics_from_hidden

KEYS = jax.random.split(jax.random.key(0), 5)
# The last steps overlap those before, and the vocabulary is no multiple of a block.
HIDDEN, OTHER = (jax.random.normal(key, (2, 19, 8)) for key in KEYS[:2])
HEAD, OTHER_HEAD = (jax.random.normal(key, (8, 300)) for key in KEYS[2:4])
TOKENS = jax.random.randint(KEYS[4], (2, 19), 0, 300)
FROM_HIDDEN = (HIDDEN, HEAD, TOKENS, (OTHER, OTHER_HEAD))


def from_logits() -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same by its logits."""
    return HIDDEN @ HEAD, TOKENS, OTHER @ OTHER_HEAD


def assert_close(found: TokenStatistics, expected: TokenStatistics) -> None:
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("time", [64, 1500])
def test_the_logits_never_exist_twice(time: int, dtype: str) -> None:
    """What is needed beside logits and results is at most 5 % of the logits, for few steps and for many."""
    logits = jax.ShapeDtypeStruct((4, time, 32_001), dtype)
    arguments = (logits, jax.ShapeDtypeStruct((4, time), "int32"), logits)
    assert extra_memory(token_statistics, *arguments) < 0.05 * logits.size * logits.dtype.itemsize


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_logits_of_hidden_states_never_exist(dtype: str) -> None:
    """What is needed beside hidden states, heads and results is at most 5 % of the logits that it spares."""
    hidden, head = jax.ShapeDtypeStruct((4, 256, 64), dtype), jax.ShapeDtypeStruct((64, 32_001), dtype)
    arguments = (hidden, head, jax.ShapeDtypeStruct((4, 256), "int32"), (hidden, head))
    assert extra_memory(token_statistics_from_hidden, *arguments) < 0.05 * 4 * 256 * 32_001 * 4


def extra_memory(function: Callable[..., object], *arguments: object) -> int:
    """Bytes beside the arguments and the results."""
    analysis = jax.jit(function).lower(*arguments).compile().memory_analysis()
    assert analysis is not None
    return int(analysis.temp_size_in_bytes)


def test_statistics_under_vmap_and_scan() -> None:
    """Each element alone gives what all give together."""
    arguments = from_logits()
    together = jax.jit(token_statistics)(*arguments)
    assert_close(jax.jit(jax.vmap(token_statistics))(*arguments), together)
    _, scanned = jax.lax.scan(lambda carry, row: (carry, token_statistics(*row)), None, arguments)
    assert_close(scanned, together)
    mapped = jax.vmap(token_statistics_from_hidden, in_axes=(0, None, 0, (0, None)))
    assert_close(jax.jit(mapped)(*FROM_HIDDEN), together)


def test_no_gradient_flows_through_the_statistics() -> None:
    """They may stand in a loss function as values to look at."""
    logits, tokens, reference = from_logits()
    gradient = jax.jit(
        jax.grad(lambda x: sum(jnp.sum(y) for y in jax.tree.leaves(token_statistics(x, tokens, reference))))
    )
    assert not np.any(gradient(logits))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from toolkit.metrics.tokens import token_statistics, token_statistics_from_hidden

keys = jax.random.split(jax.random.key(0), 5)
hidden, other = (jax.random.normal(key, (16, 19, 8)) for key in keys[:2])
head, other_head = (jax.random.normal(key, (8, 300)) for key in keys[2:4])
tokens = jax.random.randint(keys[4], (16, 19), 0, 300)
cases = (
    (token_statistics, (hidden @ head, tokens, other @ other_head)),
    (token_statistics_from_hidden, (hidden, head, tokens, (other, other_head))),
)
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(kind,))
    for function, arguments in cases:
        place = lambda x: jax.device_put(x, NamedSharding(mesh, P("batch") if x.shape[0] == 16 else P()))
        spread = jax.tree.map(place, arguments)
        with jax.set_mesh(mesh):
            compiled = jax.jit(function).lower(*spread).compile()
            found = compiled(*spread)
        assert "all-gather" not in compiled.as_text(), kind
        assert found.kl.sharding.spec[0] == "batch", found.kl.sharding
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=1e-5, atol=1e-5),
            found,
            function(*arguments),
        )
"""


def test_a_batch_sharded_over_devices_stays_where_it_is() -> None:
    """With automatic and with explicit axes, from logits and from hidden states, the result is that of one device."""
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", SHARDED], check=True, env=environment, timeout=240)
