"""What the statistics of tokens cost, against the same by log_softmax in JAX and torch, and a read of the logits.

The contenders alternate in one run. Each is called twice a turn and the second call is timed: the first pays for what
the one before it left behind, such as pages of memory that it gave back. Times are medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import torch
from jax import Array

from toolkit.metrics.tokens import TokenStatistics, token_statistics, token_statistics_from_hidden

ROUNDS, WIDTH = 7, 1024
# Batch, time, vocabulary and type of the logits.
LOGITS = [
    (4, 256, 32_000, "float32"),
    (4, 256, 32_000, "bfloat16"),
    (4, 64, 151_936, "float32"),
    (4, 64, 151_936, "bfloat16"),
]
HIDDEN = [(4, 256, 32_000, "float32"), (4, 64, 151_936, "float32")]

Run = Callable[[], object]


def main() -> None:
    """Print a table for each shape."""
    print(f"{jax.default_backend()}, {jax.device_count()} device(s), {torch.get_num_threads()} threads of torch")
    for shape in LOGITS:
        print(f"\nfrom logits {shape}, with a reference")
        table(logits_contenders(*shape))
    for shape in HIDDEN:
        print(f"\nfrom hidden states of width {WIDTH} {shape}, with a reference")
        table(hidden_contenders(*shape))


class Compiled:
    """A jitted function with its arguments, and the memory it needs beside them and its results, in shares of `of`."""

    def __init__(self, function: Callable[..., object], *arguments: Array, of: int) -> None:
        self.function, self.arguments = jax.jit(function).lower(*arguments).compile(), arguments
        self.extra = self.function.memory_analysis().temp_size_in_bytes / of

    def __call__(self) -> object:
        """Run to the end."""
        return jax.block_until_ready(self.function(*self.arguments))


def logits_contenders(batch: int, time: int, vocabulary: int, dtype: str) -> dict[str, Run]:
    """The ways from logits to the statistics, and plain passes over the same two arrays."""
    keys = jax.random.split(jax.random.key(0), 3)
    logits = (3 * jax.random.normal(keys[0], (batch, time, vocabulary))).astype(dtype)
    reference = (logits + jax.random.normal(keys[1], logits.shape, dtype) / 2).astype(dtype)
    tokens = jax.random.randint(keys[2], (batch, time), 0, vocabulary)
    contenders: dict[str, Run] = {
        "token_statistics": Compiled(token_statistics, logits, tokens, reference, of=logits.nbytes),
        "log_softmax (jax)": Compiled(by_log_softmax, logits, tokens, reference, of=logits.nbytes),
        "log_softmax (torch)": torch_by_log_softmax(logits, tokens, reference),
        "read": Compiled(read, logits, reference, of=logits.nbytes),
    }
    if jax.default_backend() == "gpu":
        contenders["copy"] = Compiled(copy, logits, reference, of=logits.nbytes)
    return contenders


def hidden_contenders(batch: int, time: int, vocabulary: int, dtype: str) -> dict[str, Run]:
    """The ways from hidden states to the statistics."""
    keys = jax.random.split(jax.random.key(0), 5)
    hidden, reference_hidden = (jax.random.normal(key, (batch, time, WIDTH), dtype) for key in keys[:2])
    head, reference_head = (jax.random.normal(key, (WIDTH, vocabulary), dtype) / WIDTH**0.5 for key in keys[2:4])
    tokens = jax.random.randint(keys[4], (batch, time), 0, vocabulary)
    arguments = (hidden, head, tokens, (reference_hidden, reference_head))
    size = batch * time * vocabulary * hidden.dtype.itemsize
    return {
        "from_hidden": Compiled(token_statistics_from_hidden, *arguments, of=size),
        "through logits": Compiled(through(token_statistics), *arguments, of=size),
        "through log_softmax": Compiled(through(by_log_softmax), *arguments, of=size),
    }


def by_log_softmax(logits: Array, tokens: Array, reference: Array) -> TokenStatistics:
    """The statistics as the formulas are written."""
    log_policy, log_reference = (jax.nn.log_softmax(x.astype(jnp.float32)) for x in (logits, reference))
    policy = jnp.exp(log_policy)
    return TokenStatistics(
        logp=jnp.take_along_axis(log_policy, tokens[..., None], axis=-1)[..., 0],
        entropy=-jnp.sum(policy * log_policy, axis=-1),
        kl=jnp.sum(policy * (log_policy - log_reference), axis=-1),
    )


def torch_by_log_softmax(logits: Array, tokens: Array, reference: Array) -> Run:
    """The same in torch."""
    dtype = getattr(torch, str(logits.dtype))
    x, y = (torch.tensor(jax.device_get(array.astype(jnp.float32))).to(dtype) for array in (logits, reference))
    taken = torch.tensor(jax.device_get(tokens)).long()

    def run() -> object:
        log_policy, log_reference = (torch.log_softmax(array, -1, dtype=torch.float32) for array in (x, y))
        policy = log_policy.exp()
        logp = log_policy.gather(-1, taken[..., None])[..., 0]
        return logp, -(policy * log_policy).sum(-1), (policy * (log_policy - log_reference)).sum(-1)

    return run


def through(of_logits: Callable[[Array, Array, Array], TokenStatistics]) -> Callable[..., TokenStatistics]:
    """The statistics from hidden states through the whole logits."""

    def from_hidden(hidden: Array, head: Array, tokens: Array, reference: tuple[Array, Array]) -> TokenStatistics:
        return of_logits(hidden @ head, tokens, reference[0] @ reference[1])

    return from_hidden


def read(logits: Array, reference: Array) -> tuple[Array, Array]:
    """A pass over both arrays."""
    return jnp.sum(logits, dtype=jnp.float32), jnp.sum(reference, dtype=jnp.float32)


def copy(logits: Array, reference: Array) -> tuple[Array, Array]:
    """Both arrays once more."""
    return jnp.copy(logits), jnp.copy(reference)


def table(contenders: dict[str, Run]) -> None:
    """Print each contender's median time, how much longer it takes than the first, and what it needs of memory."""
    seconds = medians(contenders)
    first = next(iter(seconds.values()))
    for name, median in seconds.items():
        run = contenders[name]
        row = f"{name:20} {median * 1e3:9.2f} ms   {median / first:6.2f} x"
        if isinstance(run, Compiled):
            row += f"   extra memory {run.extra:8.2%}"
            if jax.default_backend() == "gpu":
                row += f"   {sum(x.nbytes for x in jax.tree.leaves(run.arguments)) / median / 1e9:8.1f} GB/s of logits"
        print(row, flush=True)


def medians(contenders: dict[str, Run]) -> dict[str, float]:
    """Seconds of each, over rounds in which all take their turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            run()
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(of) for name, of in seconds.items()}


if __name__ == "__main__":
    main()
