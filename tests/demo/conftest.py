"""An untrained model and prompts, for the tests of the demo."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jaxtyping import Array, Int

from toolkit.demo.model import Decoder
from toolkit.demo.task import training_problems
from toolkit.demo.tokenizer import encode_prompts


@pytest.fixture(autouse=True, scope="module")
def standard_promotion() -> Iterator[None]:
    """Flax and optax rely on promotion: a norm of Flax mixes bfloat16 with float32.

    For every thread, as held-out validation runs on one of its own; a context manager of JAX holds for one only.
    """
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def model() -> Decoder:
    """An untrained model, the same for every test, and free to be trained."""
    return Decoder(rngs=nnx.Rngs(0))


@pytest.fixture(scope="session")
def prompts() -> Int[Array, "batch prompt_time"]:
    """Sixteen different prompts."""
    return jnp.asarray(encode_prompts([problem.prompt for problem in training_problems()[:1600:100]]))
