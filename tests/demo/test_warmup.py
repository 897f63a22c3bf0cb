"""A very short warm-up."""

import jax
import numpy as np
from flax import nnx

from toolkit.demo.warmup import WarmupConfig, warm_up

TINY = WarmupConfig(worked_steps=20, mixed_steps=15, batch=16, chunk=10, examples_per_problem=1)


def test_a_warm_up_learns_and_is_the_same_every_time() -> None:
    """The loss falls, progress ends at the last step, and a second run gives the same parameters."""
    seen: list[tuple[int, int, float]] = []
    first = warm_up(TINY, lambda *progress: seen.append(progress))
    second = warm_up(TINY)
    assert [done for done, _, _ in seen] == [10, 20, 30, 35]
    assert {steps for _, steps, _ in seen} == {35}
    assert seen[0][2] > seen[-1][2]
    for one, other in zip(jax.tree.leaves(nnx.state(first)), jax.tree.leaves(nnx.state(second)), strict=True):
        np.testing.assert_array_equal(one, other)
