"""What validating beside the training costs: the tiny TRL run and the demo, beside validating inline, in one run.

Each kind runs the same training: without validation, with the training waiting for each one (inline), and with them on
a thread. Compared are the step times, the longest gap between two steps while a validation runs, the whole time with
the wait for the last validation, the peak of the resident memory, and that losses are the same.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from asked import asked
from flax import nnx
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, Qwen2Config, Qwen2ForCausalLM, TrainerCallback

import toolkit
from tests.callbacks import tiny_trl
from toolkit import build
from toolkit.callbacks import trl_validation
from toolkit.callbacks.observer import Observer
from toolkit.config import load
from toolkit.demo.grpo import GRPOConfig, start, train_step
from toolkit.demo.run import heldout
from toolkit.demo.sampler import policy
from toolkit.demo.task import draw, training_problems
from toolkit.demo.warmup import WarmupConfig, warm_up
from toolkit.validation.policies.draw import Sampling
from toolkit.validation.policy import InlinePolicy, Policy
from toolkit.validation.shadow import ShadowPolicy

KINDS = ("without", "inline", "background")
ROUNDS, FIRST = 3, 10
QUIET = ["sinks.console=false", "sinks.tensorboard=false", "validation.max_samples=512"]


@dataclass
class Run:
    """What one training took: when its steps ended, and from when to when it was validated."""

    kind: str
    steps: list[float] = field(default_factory=list)
    validated: list[tuple[float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    wall: float = 0.0

    def gaps(self, beside: bool) -> list[float]:
        """The times between steps, of those beside which a validation ran or of the others; the first are compiling."""
        pairs = list(zip(self.steps, self.steps[1:], strict=False))[FIRST:]
        return [
            end - begin
            for begin, end in pairs
            if beside == any(first < end and begin < last for first, last in self.validated)
        ]


def main() -> None:
    """Print a table of each host, or of those that are named."""
    for part in asked(sys.argv[1:], PARTS):
        PARTS[part]()


def table(name: str, train: Callable[[str], Run]) -> None:
    """Print the numbers of each kind."""
    train("background")  # compiles and imports everything
    runs = [train(kind) for _ in range(ROUNDS) for kind in KINDS]
    assert len({tuple(run.losses) for run in runs}) == 1, "validation changed the training"
    print(f"\n{name}: losses of all {len(runs)} runs are the same, {len(runs[0].losses)} steps")
    for kind in KINDS:
        print(line(kind, [run for run in runs if run.kind == kind]), flush=True)


def memory() -> None:
    """Print what a second model and its snapshots add to the resident memory, in sizes of the model."""
    config = Qwen2Config(vocab_size=280, hidden_size=1024, intermediate_size=4096, num_hidden_layers=6)
    config.num_attention_heads = config.num_key_value_heads = 8
    large = Qwen2ForCausalLM(config)
    size = sum(weight.nbytes for weight in large.parameters())
    process, before = psutil.Process(), psutil.Process().memory_info().rss
    shadow = ShadowPolicy(large, tiny_trl.tokenizer(), Sampling(8))
    added = []
    for _ in range(3):
        shadow.snapshot().generate(["1 plus 1 is"] * 8)
        added.append((process.memory_info().rss - before) / size)
    adapted = get_peft_model(large, LoraConfig(target_modules=["q_proj", "v_proj"], r=8))
    before = process.memory_info().rss
    ShadowPolicy(adapted, tiny_trl.tokenizer(), Sampling(8)).snapshot().generate(["1 plus 1 is"] * 8)
    print(f"\nmemory, in models of {size / 2**20:.0f} MB: after each of three validations {added[0]:.2f}", end="")
    print(f", {added[1]:.2f}, {added[2]:.2f}; with an adapter {(process.memory_info().rss - before) / size:.2f}")


def line(kind: str, runs: list[Run]) -> str:
    """The numbers of one kind: the median over its runs."""
    steps = statistics.median(gap for run in runs for gap in run.gaps(beside=False))
    longest = [max(run.gaps(beside=kind != "without")) for run in runs]
    by_run = ", ".join(f"{gap / steps:.2f}" for gap in longest)
    wall = statistics.median(run.wall for run in runs)
    return (
        f"{kind:12} median step {steps * 1e3:6.1f} ms  longest gap {statistics.median(longest) * 1e3:7.1f} ms "
        f"({statistics.median(longest) / steps:5.2f} medians; by run {by_run})"
        f"  wall {wall:6.2f} s"
    )


def trl(kind: str) -> Run:
    """A tiny Qwen2 that TRL trains for 120 steps, validated on 256 prompts of 8 tokens before, after and half way."""
    run = Run(kind)

    class Steps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            run.steps.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as directory:
        host = tiny_trl.trainer(Path(directory), [tiny_trl.vowels], max_steps=120, learning_rate=1e-4)
        problems = toolkit.HeldOut("sums", [f"{number} plus 1 is" for number in range(256)], ["1"] * 256)
        overrides = [*QUIET, "validation.every=60", f"validation.enabled={str(kind != 'without').lower()}"]
        host.remove_callback(PrinterCallback)
        with inline_trl(kind == "inline"):
            host.add_callback(Steps())
            observer = toolkit.watch(host, "grpo", directory + "/run", overrides=overrides, heldout=problems)
            watched(observer, run)
            with measured(run):
                host.train()
        run.losses += [row["loss"] for row in host.state.log_history if "loss" in row]
    return run


def demo(model: Any) -> Callable[[str], Run]:
    """The demo's training from a warmed-up model, 120 steps, validated on 512 sums at every 40th."""
    config, problems = GRPOConfig(), training_problems()

    def train(kind: str) -> Run:
        run = Run(kind)
        with tempfile.TemporaryDirectory() as directory:
            # A copy, because the training changes the model in place.
            state = start(nnx.merge(*jax.tree.map(jnp.copy, nnx.split(model))), config)
            overrides = [*QUIET, "validation.every=40", f"validation.enabled={str(kind != 'without').lower()}"]
            observer = build.observer(load("demo", overrides), Path(directory), heldout(512))
            watched(observer, run)
            asked: Policy = policy(state.model)
            asked = InlinePolicy(asked) if kind == "inline" else asked
            with measured(run), observer:
                for step in range(120):
                    observer.validate(step, asked)
                    batch = draw(problems, config.prompts, np.random.default_rng(step))
                    state, rollout = train_step(state, batch, config)
                    observer.step(step, rollout)
                    run.losses.append(float(state.loss))
                    run.steps.append(time.perf_counter())
        return run

    return train


def watched(observer: Observer, run: Run) -> None:
    """Take down when validations run."""
    if not observer.validates:
        return
    validator: Any = observer._validation._validator  # type: ignore[union-attr]  # it has a validation
    report = validator._report

    def timed(*arguments: Any) -> None:
        began = time.perf_counter()
        report(*arguments)
        run.validated.append((began, time.perf_counter()))

    validator._report = timed


@contextmanager
def inline_trl(wanted: bool) -> Iterator[None]:
    """As if no second model could be built."""
    copyable = trl_validation._expect_copyable
    try:
        if wanted:
            trl_validation._expect_copyable = _refused
        yield
    finally:
        trl_validation._expect_copyable = copyable


def _refused(model: Any) -> None:
    raise toolkit.ToolkitError("inline")


@contextmanager
def measured(run: Run) -> Iterator[None]:
    """The whole time."""
    began = time.perf_counter()
    yield
    run.wall = time.perf_counter() - began


PARTS: dict[str, Callable[[], None]] = {
    "trl": lambda: table("TRL", trl),
    "demo": lambda: table("the demo", demo(warm_up(WarmupConfig()))),
    "memory": memory,
}


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
