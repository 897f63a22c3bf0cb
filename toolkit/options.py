"""Options of a command line: `--log-dir`, `--wandb`, `--tensorboard` and `key=value`, in our commands and in yours."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONFIG = "A preset's name or a YAML file."
LOG_DIR = "The run's directory; by default one in runs/."
WANDB = "Log to W&B; else as the configuration says."
WANDB_PROJECT = "The project on W&B; turns it on."
TENSORBOARD = "Write TensorBoard's files; else as the configuration says."
OVERRIDES = "Single settings, for example metrics.format=false."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser of your own, in a group; what they gave is for `observe_arguments`."""
    group = parser.add_argument_group("observation")
    switch = argparse.BooleanOptionalAction
    group.add_argument("--config", default="grpo", metavar="NAME|FILE", help=CONFIG)
    group.add_argument("--log-dir", type=Path, help=LOG_DIR)
    group.add_argument("--wandb", action=switch, default=None, help=WANDB)
    group.add_argument("--wandb-project", metavar="NAME", help=WANDB_PROJECT)
    group.add_argument("--tensorboard", action=switch, default=None, help=TENSORBOARD)
    group.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES)


def observe_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line says as arguments of `toolkit.observe`, `toolkit.watch` and `toolkit.Experiment`."""
    overrides = sink_overrides(args.wandb, args.wandb_project, args.tensorboard, args.overrides)
    return {"config": args.config, "log_dir": args.log_dir, "overrides": overrides}


def sink_overrides(
    wandb: bool | None, wandb_project: str | None, tensorboard: bool | None, overrides: Sequence[str] = ()
) -> list[str]:
    """The options as `key=value` settings, and behind them `overrides`, which win; None leaves a setting as it is."""
    wanted = {
        "sinks.wandb.enabled": True if wandb is None and wandb_project else wandb,
        "sinks.wandb.project": wandb_project,
        "sinks.tensorboard.enabled": tensorboard,
    }
    # As JSON, so that a project named 2026 or `true` is a text.
    return [f"{key}={json.dumps(value)}" for key, value in wanted.items() if value is not None] + list(overrides)
