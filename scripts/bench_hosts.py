"""What observing costs a host: its steps with and without the observer, in blocks that alternate in one run.

With: every family, the journal, TensorBoard, samples, drift. Torch has one thread, as on a machine whose accelerator
does the work: the other cores are free. The first steps of a block fill the worker's first burst and are not timed, and
what is left at its end is written before the next block begins.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from toolkit.callbacks.trl import TRLCallback

FIRST, TIMED = 3, 10


def main() -> None:
    """Measure the hosts that are named, by default all."""
    for host in sys.argv[1:] or HOSTS:
        HOSTS[host]()


def trl() -> None:
    """A tiny model, whose steps show the cost by itself, and one whose steps are long enough for a ratio."""
    trl_steps("tiny", width=64, layers=2, tokens=8, blocks=20)
    trl_steps("larger", width=256, layers=3, tokens=32, blocks=16)


def trl_steps(name: str, width: int, layers: int, tokens: int, blocks: int) -> None:
    """Print what the steps of a model of this size take."""
    import torch
    from train_trl import correct, formatted, sums, tiny
    from trl import GRPOConfig, GRPOTrainer

    import toolkit

    torch.set_num_threads(1)
    model, tokenizer = tiny(width, layers)
    with tempfile.TemporaryDirectory() as run:
        settings = GRPOConfig(
            output_dir=run,
            max_steps=(blocks + 2) * (FIRST + TIMED),
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
            gradient_checkpointing=False,
        )
        data = {"train_dataset": sums(1000, seed=0), "eval_dataset": sums(8, seed=1)}
        trainer = GRPOTrainer(model, [correct, formatted], args=settings, processing_class=tokenizer, **data)
        trainer.remove_callback(type(trainer.callback_handler.callbacks[-1]))  # the one that prints
        observer = toolkit.observe("grpo", Path(run) / "toolkit", overrides=["sinks.console=false"])
        blocks_of = Alternating(trainer, observer)
        trainer.add_callback(blocks_of)
        trainer.train()
    report(f"trl, {name} model", blocks_of.seconds, {"all": blocks_of.own, "capture": blocks_of.capture})


class Alternating(TrainerCallback):
    """Observes the trainer in every second block, and takes the time of all steps but the first."""

    def __init__(self, trainer: Any, observer: Any) -> None:
        self.seconds: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
        self.own: list[float] = []
        self.capture: list[float] = []
        self._trainer = trainer
        self._observer = observer
        self._inner = TRLCallback(observer)
        self._kind = "without"
        self._began = (0.0, 0.0)
        self._overhead_s = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """Time the step, and at the end of a block change over."""
        looked_s = 0.0
        if self._kind == "with":
            looked_s = self._inner._capture.spent_s()  # it would go into the overhead, and nobody else could tell
            self._observer.overhead_s += looked_s
            self._inner.on_step_end(args, state, control)
        ended = time.perf_counter(), time.thread_time()
        block, place = divmod(state.global_step - 1, FIRST + TIMED)
        if place >= FIRST and block >= 2:  # the first two compile
            self.seconds[self._kind].append((ended[0] - self._began[0], ended[1] - self._began[1]))
            if self._kind == "with":
                self.own.append(self._observer.overhead_s - self._overhead_s)
                self.capture.append(looked_s)
        if place == FIRST + TIMED - 1:
            self._change(args, state, control)
        self._overhead_s = self._observer.overhead_s
        self._began = time.perf_counter(), time.thread_time()

    def on_log(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """What the trainer logs, where it is observed."""
        if self._kind == "with":
            self._inner.on_log(args, state, control, **named)

    def on_train_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        """The end, for the observer."""
        self._inner.on_train_end(args, state, control)

    def _change(self, args: Any, state: Any, control: Any) -> None:
        if self._kind == "with":
            self._inner.detach()
            self._observer.logger.flush()
            self._kind = "without"
        else:
            self._inner.attach(self._trainer)
            self._inner.on_train_begin(args, state, control)
            self._kind = "with"


def report(name: str, seconds: dict[str, list[tuple[float, float]]], own: dict[str, list[float]]) -> None:
    """Print the steps of both kinds and their ratio, by the clock and by the training thread's processor time."""
    print(f"{name}: {len(seconds['with'])} steps of each kind")
    for part, took in own.items():
        of = [f"{statistic} {of(took) * 1e3:.3f} ms" for statistic, of in STATISTICS.items()]
        print(f"  the observer on the training thread, {part}: {', '.join(of)}")
    for place, clock in enumerate(("wall time", "processor time of the training thread")):
        bare, observed = ([step[place] for step in seconds[kind]] for kind in ("without", "with"))
        for statistic, of in STATISTICS.items():
            ratio = of(observed) / of(bare)
            print(f"  {clock}, {statistic}: {of(bare) * 1e3:.2f} ms, {of(observed) * 1e3:.2f} ms, ratio {ratio:.4f}")


def quantile(seconds: list[float], tenths: int) -> float:
    """The value that so many tenths are below."""
    return statistics.quantiles(seconds, n=10)[tenths - 1]


STATISTICS: dict[str, Callable[[list[float]], float]] = {
    "10th percentile": lambda steps: quantile(steps, 1),
    "median": statistics.median,
    # The mean without the slowest steps of either kind, which are the machine's.
    "trimmed mean": lambda steps: statistics.mean(sorted(steps)[: int(len(steps) * 0.9)]),
}

HOSTS: dict[str, Callable[[], None]] = {"trl": trl}


if __name__ == "__main__":
    main()
