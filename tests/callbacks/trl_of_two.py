"""A program for `test_trl_processes`: trains in two processes and keeps what each of them saw, if none is to die."""

import os
import pickle
import signal
import sys
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

import toolkit
from tests.callbacks import tiny_trl
from tests.callbacks.test_asks import Asking
from tests.callbacks.tiny_trl import at_least, logged, sometimes
from toolkit.callbacks import Checkpoint, Stop
from toolkit.callbacks.observer import Observer
from toolkit.processes import process_index

OVERRIDES = [
    "metrics.histograms.every=1",
    "sinks.console=false",
    "sinks.tensorboard=false",
    "metrics.text.every=1",
    "processes.wait_s=60",
    "queue.close_s=250",
]
SAVED, STOPPED = 2, 3
"""The steps after which a callback, which is called in process 0 alone, asks for a checkpoint and for the end."""
DIED = 3
THEIRS = {
    "rewards/total/mean": "reward",
    "groups/zero_std_fraction": "frac_reward_zero_std",
    "completions/length_mean": "completions/mean_length",
    "completions/truncated_fraction": "completions/clipped_ratio",
    "policy/entropy": "entropy",
}
"""Our keys and those of TRL, which gathers over processes by itself."""


class Dying(TrainerCallback):
    """Kills its process in the third step, when everything before is through."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Between two micro-batches: the other process is waiting for the second."""
        if state.global_step == DIED - 1:
            self._observer.logger.flush(200)
            os.kill(os.getpid(), signal.SIGKILL)


def trained(directory: Path, **settings: Any) -> tuple[Any, Observer]:
    """A trainer and its observer; a batch is of six completions, and a group of four goes on in the other process."""
    rewards: list[Any] = [at_least(4), sometimes]
    settings = {"per_device_train_batch_size": 6, "max_steps": 5, "ddp_find_unused_parameters": False, **settings}
    trainer = tiny_trl.trainer(directory / "host", rewards, **settings)
    callbacks = [Asking(SAVED, Checkpoint("it is time")), Asking(STOPPED, Stop("it is enough"))]
    observer = toolkit.watch(trainer, "grpo", directory / "run", overrides=OVERRIDES, callbacks=callbacks)
    return trainer, observer


def die(directory: Path, dying: int) -> None:
    """Train until the process of this number is dead."""
    trainer, observer = trained(directory, gradient_accumulation_steps=2)
    if process_index() == dying:
        trainer.add_callback(Dying(observer))
    trainer.train()


def main(directory: Path) -> None:
    """Train to the end, and keep what this process saw."""
    trainer, observer = trained(directory)
    steps: list[dict[str, Any]] = []
    ahead = observer.ahead

    def kept(number: int, rollout: Any = None, *, update: Any = None) -> None:
        steps.append({"own": rollout(), "whole": rollout.whole(), "update": update()})
        ahead(number, rollout, update=update)

    observer.ahead = kept  # type: ignore[method-assign, assignment]  # our own observer
    trainer.train()
    theirs = {ours: logged(trainer, key) for ours, key in THEIRS.items()}
    (directory / f"seen{process_index()}").write_bytes(pickle.dumps((steps, theirs)))


if __name__ == "__main__":
    die(Path(sys.argv[1]), int(sys.argv[2])) if sys.argv[2:] else main(Path(sys.argv[1]))
