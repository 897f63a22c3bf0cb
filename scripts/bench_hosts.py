"""What observing costs a host: its steps with and without the observer, in blocks that alternate in one run.

With: every family, the journal, TensorBoard, samples, drift; not the norms of layers. Torch has one thread, as on a
machine whose accelerator does the work: the other cores are free. The first steps of a block are not timed, and what is
left at its end is written before the next block begins.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bench_cost
import numpy as np
from alternation import KINDS, kind_of, report
from asked import asked
from transformers import TrainerCallback

from toolkit.callbacks.trl import TRLCallback

BLOCK = 1, 2
"""Steps before those that are timed, and those: no round falls into step with what happens at every 10th or 50th."""
LONG_BLOCK = 6, 10
"""The same where the worker works in bursts of a second: the first steps fill the first burst."""
WARM = 2
"""Rounds before the first that is timed: what compiles is compiled in them."""


def main() -> None:
    """Measure the hosts that are named, by default all."""
    for host in asked(sys.argv[1:], HOSTS):
        HOSTS[host]()


def trl() -> None:
    """A tiny model, whose steps show the cost by itself, and others whose steps are long enough for a ratio.

    One of them keeps checkpoints of activations, as TRL does by default: its backward pass runs the layers again.
    """
    trl_steps("tiny", width=64, layers=2, tokens=8, rounds=100)
    trl_steps("small", width=128, layers=3, tokens=20, rounds=250)
    together = {"block": LONG_BLOCK, "settings": ["queue.burst_s=1"]}
    trl_steps("small, a second together,", width=128, layers=3, tokens=20, rounds=60, **together)
    trl_steps("larger", width=192, layers=3, tokens=20, rounds=200)
    trl_steps("larger, with checkpoints,", width=192, layers=3, tokens=20, rounds=120, checkpoints=True)
    trl_steps("largest", width=256, layers=3, tokens=40, rounds=120)


def trl_steps(
    name: str,
    width: int,
    layers: int,
    tokens: int,
    rounds: int,
    *,
    checkpoints: bool = False,
    block: tuple[int, int] = BLOCK,
    settings: Sequence[str] = (),
) -> None:
    """Print what the steps of a model of this size take, with these settings of ours."""
    import torch
    from train_trl import correct, formatted, sums, tiny
    from trl import GRPOConfig, GRPOTrainer

    import toolkit

    torch.set_num_threads(1)
    model, tokenizer = tiny(width, layers)
    with tempfile.TemporaryDirectory() as run:
        arguments = GRPOConfig(
            output_dir=run,
            max_steps=(rounds + WARM) * len(KINDS) * sum(block),
            per_device_train_batch_size=16,
            num_generations=8,
            max_completion_length=tokens,
            generation_kwargs={"suppress_tokens": [tokenizer.eos_token_id]},  # all completions have one length
            learning_rate=0.0,  # and every step does the same
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=checkpoints,
        )
        data = {"train_dataset": sums(1000, seed=0), "eval_dataset": sums(8, seed=1)}
        trainer = GRPOTrainer(model, [correct, formatted], args=arguments, processing_class=tokenizer, **data)
        trainer.remove_callback(type(trainer.callback_handler.callbacks[-1]))  # the one that prints
        observer = toolkit.observe("grpo", Path(run) / "toolkit", overrides=["sinks.console=false", *settings])
        alternating = Alternating(trainer, observer, *block)
        trainer.add_callback(alternating)
        trainer.train()
    print(f"trl, {name} model: {rounds} rounds, {block[1]} steps a block")
    for part, took in (("all", alternating.own), ("capture", alternating.capture)):
        print(f"  the observer on the training thread, {part}: {spelled(took)}")
    report("wall time", alternating.wall)
    report("processor time of the training thread", alternating.processor)
    waits = ", ".join(f"{kind} {alternating.waits_ms(kind):.2f} ms" for kind in KINDS)
    print(f"what the training thread waits in a step, in the mean: {waits}")


class Alternating(TrainerCallback):
    """Observes the trainer in blocks of one kind, of so many `first` and then `timed` steps, and takes their times."""

    def __init__(self, trainer: Any, observer: Any, first: int, timed: int) -> None:
        self._first, self._timed = first, timed
        self.wall: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
        self.processor: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
        self.own: list[float] = []
        self.capture: list[float] = []
        self._trainer = trainer
        self._observer = observer
        self._inner = TRLCallback(observer)
        self._kind = kind_of(0)
        self._began = (0.0, 0.0)
        self._overhead_s = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """The first block begins."""
        self._begin(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Time the step, and at the end of a block change over."""
        looked_s = 0.0
        if self._kind == "with":
            looked_s = self._inner._capture.spent_s()  # it would go into the overhead, and nobody else could tell
            self._observer.overhead_s += looked_s
            self._inner.on_step_end(args, state, control)
        ended = time.perf_counter(), time.thread_time()
        block, place = divmod(state.global_step - 1, self._first + self._timed)
        if place >= self._first and block >= WARM * len(KINDS):
            self._keep(place == self._first, ended, looked_s)
        if place == self._first + self._timed - 1:
            self._end()
            self._kind = kind_of(block + 1)
            self._begin(args, state, control)
        self._overhead_s = self._observer.overhead_s
        self._began = time.perf_counter(), time.thread_time()

    def on_log(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """What the trainer logs, where it is observed."""
        if self._kind == "with":
            self._inner.on_log(args, state, control, **named)

    def on_train_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """The end, for the observer."""
        self._inner.on_train_end(args, state, control)

    def waits_ms(self, kind: str) -> float:
        """The mean time of a step of this kind in which the training thread had no processor."""
        wall, processor = (np.mean([np.mean(block) for block in clock[kind]]) for clock in (self.wall, self.processor))
        return float(wall - processor) * 1e3

    def _keep(self, first: bool, ended: tuple[float, float], looked_s: float) -> None:
        for clock, began, end in zip((self.wall, self.processor), self._began, ended, strict=True):
            if first:
                clock[self._kind].append([])
            clock[self._kind][-1].append(end - began)
        if self._kind == "with":
            self.own.append(self._observer.overhead_s - self._overhead_s)
            self.capture.append(looked_s)

    def _begin(self, args: Any, state: Any, control: Any) -> None:
        if self._kind == "with":
            self._inner.attach(self._trainer)
            self._inner.on_train_begin(args, state, control)

    def _end(self) -> None:
        if self._kind == "with":
            self._inner.detach()
            self._observer.logger.flush()


def spelled(seconds: list[float]) -> str:
    """The distribution of some times."""
    low, median, high = np.quantile(seconds, [0.1, 0.5, 0.9]) * 1e3
    mean = np.mean(seconds) * 1e3
    return f"10th percentile {low:.3f} ms, median {median:.3f} ms, 90th {high:.3f} ms, mean {mean:.3f} ms"


HOSTS: dict[str, Callable[[], None]] = {"trl": trl, "flax": bench_cost.main}


if __name__ == "__main__":
    main()
