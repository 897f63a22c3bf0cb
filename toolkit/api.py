"""The faces: one call for a loop of your own, one for a trainer, and plain functions onto one run of the process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from toolkit import build
from toolkit.callbacks import Callback
from toolkit.callbacks.custom import MetricFunction
from toolkit.callbacks.media import Renderer
from toolkit.callbacks.observer import Observer, Saver
from toolkit.config import Source, load
from toolkit.errors import ToolkitError
from toolkit.functions import (
    close,
    get_metrics_logger,
    get_model_logger,
    get_reward_logger,
    get_system_logger,
    get_training_logger,
    initialize,
    log_generation_metrics,
    log_memory_usage,
    log_model_output,
    log_reward,
    log_reward_metrics,
    log_training_progress,
    run_validation,
)
from toolkit.validation.heldout import HeldOut
from toolkit.validation.scorers import Scorer

__all__ = [
    "close",
    "get_metrics_logger",
    "get_model_logger",
    "get_reward_logger",
    "get_system_logger",
    "get_training_logger",
    "initialize",
    "log_generation_metrics",
    "log_memory_usage",
    "log_model_output",
    "log_reward",
    "log_reward_metrics",
    "log_training_progress",
    "observe",
    "run_validation",
    "watch",
]


def observe(
    config: Source = "grpo",
    log_dir: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    heldout: HeldOut | Sequence[HeldOut] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    metrics: Mapping[str, MetricFunction] | None = None,
    media: Mapping[str, Renderer] | None = None,
    callbacks: Sequence[Callback] = (),
    save: Saver | None = None,
) -> Observer:
    """Observe a training loop of your own: call `observer.step` after each step, and `close` at the end.

    `config` is a preset's name, a YAML path, a mapping or an OmegaConf node; `overrides` change single settings, as in
    `["metrics.format=false"]`. `log_dir` is the run's directory, `runs/<time>` by default; a directory that holds a
    run is continued. `observer.validate` scores policies on `heldout`, one data set or several, by `scorers`: both by
    default those of the settings (`validation.data` and `validation.scorers`). `metrics` are functions of your own by
    name: each takes the rollout of a step and gives a number, or several by name, for `custom/`; `media` draw of one a
    picture or a film, for `media/`. `callbacks` are your own, and `save(step, why)` saves the state of the training
    when a checkpoint is asked for, and gives its path. Raises `ConfigError` or `SinkError` for anything that could not
    work later.
    """
    return build.observer(
        load(config, overrides), run_directory(log_dir), heldout, scorers, metrics, media, callbacks, save
    )


def run_directory(log_dir: str | Path | None) -> Path:
    """The directory that is meant: `runs/<time>` where none is given."""
    return Path(log_dir) if log_dir else Path("runs") / time.strftime("%Y-%m-%d_%H-%M-%S")


def watch(
    trainer: Any,
    config: Source = "grpo",
    log_dir: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    heldout: HeldOut | Sequence[HeldOut] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    metrics: Mapping[str, MetricFunction] | None = None,
    media: Mapping[str, Renderer] | None = None,
    callbacks: Sequence[Callback] = (),
) -> Observer:
    """Observe a trainer of a library we know; call it before `trainer.train()`, and train as ever.

    Knows TRL's `GRPOTrainer`, and of any other `transformers.Trainer` its logged scalars, and Tunix's `GRPOLearner`.
    The arguments are those of `observe`; what callbacks ask for is asked of a trainer of transformers. With held-out
    data the model of such a trainer is validated beside the training. Tunix's learner does neither. The observer closes
    when training ends.
    """
    modules = {base.__module__.partition(".")[0] for base in type(trainer).__mro__}
    make = partial(build.observer, heldout=heldout, scorers=scorers, metrics=metrics, media=media, callbacks=callbacks)
    # An adapter may import its host, which is there: the trainer is one of its objects.
    if "transformers" in modules:
        from toolkit.callbacks import trl

        return trl.attach(trainer, load(config, overrides), log_dir, make)
    if "tunix" in modules:
        from toolkit.callbacks import tunix

        return tunix.attach(trainer, load(config, overrides), run_directory(log_dir), make)
    raise ToolkitError(
        f"{type(trainer).__name__} is not a trainer that can be watched: expected a transformers.Trainer such as "
        "TRL's GRPOTrainer, or Tunix's GRPOLearner. For a loop of your own use toolkit.observe"
    )
