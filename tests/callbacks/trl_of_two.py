"""A program for `test_processes_trl`, run by `torchrun`: trains in two processes and keeps what each of them saw."""

import pickle
import sys
from pathlib import Path
from typing import Any

import toolkit
from tests.callbacks import tiny_trl
from tests.callbacks.tiny_trl import at_least, logged, sometimes
from toolkit.processes import process_index

OVERRIDES = ["sinks.console=false", "sinks.tensorboard=false", "metrics.text.every=1", "processes.wait_s=60"]
THEIRS = {
    "rewards/total/mean": "reward",
    "groups/zero_std_fraction": "frac_reward_zero_std",
    "completions/length_mean": "completions/mean_length",
    "completions/truncated_fraction": "completions/clipped_ratio",
    "policy/entropy": "entropy",
}
"""Our keys and those of TRL, which gathers over processes by itself."""


def main(directory: Path) -> None:
    """Train three steps on batches of six completions, so that a group of four goes on in the other process."""
    rewards: list[Any] = [at_least(4), sometimes]
    trainer = tiny_trl.trainer(
        directory / "host", rewards, per_device_train_batch_size=6, max_steps=3, ddp_find_unused_parameters=False
    )
    observer = toolkit.watch(trainer, "grpo", log_dir=directory / "run", overrides=OVERRIDES)
    steps: list[dict[str, Any]] = []
    step = observer.step

    def kept(number: int, rollout: Any = None, *, update: Any = None, **named: Any) -> None:
        steps.append({"own": rollout(), "whole": rollout.whole(), "update": update()})
        step(number, rollout, update=update, **named)

    observer.step = kept  # type: ignore[method-assign, assignment]  # our own observer
    trainer.train()
    theirs = {ours: logged(trainer, key) for ours, key in THEIRS.items()}
    (directory / f"seen{process_index()}").write_bytes(pickle.dumps((steps, theirs)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
