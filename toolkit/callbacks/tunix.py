"""Tunix's `GRPOLearner`: what it generates, what it rewards, and all that it logs, on both of its step axes.

`tunix_capture` has the completions and their tokens; here are the steps and the scalars. Nothing of Tunix is imported:
it is known by its methods.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.callbacks.methods import Level, Methods
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.tunix_capture import Capture, cluster_of
from toolkit.config import Config
from toolkit.own_log import log as _log
from toolkit.processes import is_main

GLOBAL = "global"
"""The stream of what Tunix counts in global steps, one a batch of prompts; `train` counts updates of the actor."""

_NOT_VALIDATED = (
    "Tunix's policy is not validated on the held-out data by itself: call observer.validate(step, policy) in a "
    "training hook of the actor's trainer, or give Tunix evaluation data, as in learner.train(batches, evaluation)"
)
_NOT_STOPPED = (
    "Tunix's training does not end when a callback or plateau.stop asks for it: give learner.train batches that end "
    "once observer.asks.stop is set"
)


def attach(
    learner: Any,
    config: Config,
    directory: Path,
    make: Callable[[Config, Path], Observer],
) -> Observer:
    """Observe the learner until its training ends, with the observer that `make` gives for a config and a directory.

    The clip range of `policy/` is the learner's own. Of several processes only the first observes. Raises what `make`
    raises, before anything of the learner is touched. What this host cannot be asked for is said.
    """
    observer = make(_with_clip_range(config, learner.algo_config), directory)
    if observer.validates:
        _log.warning(_NOT_VALIDATED)
    if is_main():
        Steps(observer, learner).attach()
    return observer


class Steps:
    """Passes the updates of the actor and the logged scalars of a learner on to an observer, and closes it at the end.

    | key | what |
    |---|---|
    | `trainer/actor/train/KEY`, `trainer/actor/eval/KEY` | what Tunix logs of an update of the actor, at that update |
    | `trainer/rewards/MODE/KEY` and others | what it logs of a batch, at its global step (stream `global`) |
    | `trainer/global_step` | the global step that an update belongs to |

    Tunix logs an update when the next one has run, so its scalars are a row of their own. All other metrics come from
    the capture; a step that reuses completions has none of them.
    """

    def __init__(self, observer: Observer, learner: Any) -> None:
        self._observer = observer
        self._cluster = cluster_of(learner)
        self._trainer = self._cluster.actor_trainer
        self._capture = Capture(learner)
        self._steps = Level("steps")
        self._scalars = Level("what Tunix logs")
        self._on_cluster = Methods(self._cluster)
        self._on_logger = Methods(getattr(self._trainer, "metrics_logger", None))
        self._step = int(self._trainer.train_steps)
        self._said_not_stopped = False

    def attach(self) -> None:
        """Look at the learner's updates, at what it logs and at its end."""
        plateau = self._observer.config.plateau
        if plateau.enabled and plateau.stop:
            self._say_not_stopped()
        self._capture.attach()
        self._on_logger.look_at("log", self._scalars, self._logged)
        self._on_cluster.look_at("update_actor", self._steps, self._updated)
        self._on_cluster.look_at("close", self._steps, self._ended)

    def _updated(self, *_: Any, **__: Any) -> None:
        """Called for each micro-batch: the last of them is an update."""
        step = int(self._trainer.train_steps)
        if step != self._step:
            self._step = step
            values = {"global_step": self._cluster.global_steps}
            self._observer.step(step, self._capture.take(), values=values)
            if self._observer.asks.stop:
                self._say_not_stopped()

    def _say_not_stopped(self) -> None:
        if not self._said_not_stopped:
            self._said_not_stopped = True
            _log.warning(_NOT_STOPPED)

    def _logged(self, _: Any, prefix: str, name: str, value: Any, mode: Any, step: int) -> None:
        if np.ndim(value) == 0:
            stream = "train" if prefix == self._trainer.metrics_prefix else GLOBAL
            self._observer.log(step, {f"trainer/{prefix}/{mode}/{name}": value}, stream=stream)

    def _ended(self, *_: Any, **__: Any) -> None:
        """Give the learner its methods back, and write everything."""
        self._capture.detach()
        self._on_logger.restore()
        self._on_cluster.restore()
        self._observer.close()


def _with_clip_range(config: Config, algorithm: Any) -> Config:
    """The configuration with the clip range that the learner's loss has, if it has one."""
    low = getattr(algorithm, "epsilon", None)
    if low is None:
        return config
    high = getattr(algorithm, "epsilon_high", None)
    clip = {"clip_low": low, "clip_high": low if high is None else high}
    policy = config.metrics.policy.model_copy(update=clip)
    return config.model_copy(update={"metrics": config.metrics.model_copy(update={"policy": policy})})
