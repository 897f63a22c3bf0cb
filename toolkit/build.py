"""Configuration to objects: the one place where names become classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from toolkit.callbacks import Callback
from toolkit.callbacks.metrics import MetricsCallback
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.resources import HealthCallback, MemoryCallback
from toolkit.callbacks.samples import SamplesCallback
from toolkit.callbacks.validation import ValidationCallback
from toolkit.config import Config, Sinks, as_yaml, flat
from toolkit.errors import ConfigError, SinkError
from toolkit.logger import Logger
from toolkit.record import HParams
from toolkit.sinks import Sink
from toolkit.sinks.by_stream import ByStream
from toolkit.sinks.console import ConsoleSink
from toolkit.sinks.jsonl import JsonlSink
from toolkit.trend import RewardTrends
from toolkit.validation.background import BackgroundValidator
from toolkit.validation.heldout import HeldOut
from toolkit.validation.policy import Policy
from toolkit.validation.runner import Report, validate
from toolkit.validation.scorers import Scorer, correctness, strict_format

JOURNAL = "metrics.jsonl"
SAMPLES = "samples/completions.jsonl"
TENSORBOARD = "tensorboard"


def observer(
    config: Config,
    log_dir: Path,
    heldout: HeldOut | None = None,
    scorers: Mapping[str, Scorer] | None = None,
) -> Observer:
    """Everything that observes one run, ready to be handed its steps.

    Raises `SinkError` when a sink cannot start and `ConfigError` for held-out data of another kind.
    """
    if heldout is not None and not isinstance(heldout, HeldOut):
        raise ConfigError(
            f"heldout: expected a toolkit.HeldOut(name, prompts, references), got a {type(heldout).__name__}"
        )
    _write_config(config, log_dir)
    logger = Logger(
        _sinks(config.sinks, log_dir),
        _processors(config),
        capacity=config.queue.capacity,
        burst_s=config.queue.burst_s,
        close_s=config.queue.close_s,
    )
    logger.log(0, {"config": HParams(flat(config))}, stream="system")
    validation = _validation(config, logger, heldout, scorers) if heldout and config.validation.enabled else None
    return Observer(logger, _callbacks(config), validation, log_dir)


def _callbacks(config: Config) -> list[Callback]:
    """Those that are switched off are there too, and are never due."""
    return [
        MetricsCallback(config.metrics),
        SamplesCallback(config.samples),
        MemoryCallback(config.metrics.memory),
        HealthCallback(config.metrics.observer),
    ]


def _processors(config: Config) -> list[RewardTrends]:
    rewards = config.metrics.rewards
    return [RewardTrends(rewards.window)] if rewards.enabled else []


def _validation(
    config: Config, logger: Logger, heldout: HeldOut, scorers: Mapping[str, Scorer] | None
) -> ValidationCallback:
    problems = heldout.first(config.validation.max_samples)
    chosen = scorers or {"accuracy": correctness, "format_strict": strict_format(config.metrics.format.tags)}

    def run(policy: Policy, step: int) -> Report:
        return validate(policy, problems, chosen, policy_step=step)

    validator = BackgroundValidator(run, config.validation.close_s, logger.complaints)
    return ValidationCallback(config.validation, validator, logger)


def _sinks(settings: Sinks, log_dir: Path) -> list[Sink]:
    makers: dict[str, Callable[[], Sink]] = {}
    if settings.jsonl.enabled:
        makers["jsonl"] = lambda: ByStream({"samples": JsonlSink(log_dir / SAMPLES)}, rest=JsonlSink(log_dir / JOURNAL))
    if settings.tensorboard.enabled:
        makers["tensorboard"] = partial(_tensorboard, log_dir / TENSORBOARD)
    if settings.console.enabled:
        makers["console"] = lambda: ConsoleSink(settings.console.every_s)
    return [_started(name, make) for name, make in makers.items()]


def _started(name: str, make: Callable[[], Sink]) -> Sink:
    try:
        return make()
    except OSError as error:
        raise SinkError(f"sinks.{name}: cannot start: {error.strerror}: {error.filename}") from error


def _tensorboard(log_dir: Path) -> Sink:
    from toolkit.dashboards.tensorboard import layout  # its protos take 0.2 s to import: only where they are used
    from toolkit.sinks.tensorboard import TensorBoardSink

    return TensorBoardSink(log_dir, layout)


def _write_config(config: Config, log_dir: Path) -> None:
    """Write the resolved configuration, which also shows before training starts that the directory can be written."""
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        draft = log_dir / "config.yaml.new"
        draft.write_text(as_yaml(config))
        os.replace(draft, log_dir / "config.yaml")
    except OSError as error:
        raise SinkError(f"log_dir {str(log_dir)!r} cannot be written: {error.strerror}") from error
