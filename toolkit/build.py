"""Configuration to objects: the one place where names become classes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from toolkit import backends
from toolkit.agreement import agreement
from toolkit.callbacks import Callback
from toolkit.callbacks.alerts import AlertsCallback, Rule
from toolkit.callbacks.batch import BatchCallback
from toolkit.callbacks.checkpoints import CheckpointCallback
from toolkit.callbacks.custom import CustomCallback, MetricFunction, metric_functions
from toolkit.callbacks.hooks import check_callbacks
from toolkit.callbacks.layers import LayersCallback
from toolkit.callbacks.media import MediaCallback, Renderer
from toolkit.callbacks.merged_metrics import metrics_callback
from toolkit.callbacks.observer import Observer, Saver
from toolkit.callbacks.overlap import OverlapCallback
from toolkit.callbacks.plateau import PlateauRule
from toolkit.callbacks.progress import ProgressCallback
from toolkit.callbacks.resources import HealthCallback, MemoryCallback
from toolkit.callbacks.rules import rules
from toolkit.callbacks.samples import SamplesCallback
from toolkit.callbacks.text import TextMetrics
from toolkit.callbacks.validation import ValidationCallback
from toolkit.compute import ComputeCost
from toolkit.config import Config, as_yaml, flat
from toolkit.devices import device_kinds, peak_flops
from toolkit.errors import ConfigError, SinkError
from toolkit.lock import RunLock
from toolkit.logger import Logger, Processor
from toolkit.own_log import log as _log
from toolkit.processes import is_main, process_count, process_index
from toolkit.record import HParams, Record
from toolkit.redaction import hide_in_message, redacted
from toolkit.settings.callbacks import Validation
from toolkit.settings.metrics import ComputeFamily
from toolkit.team import team
from toolkit.trend import RewardTrends
from toolkit.validation.background import BackgroundValidator
from toolkit.validation.heldout import HeldOut
from toolkit.validation.scorers import Scorer
from toolkit.validation.series import Series, series

CHECKPOINTS = "checkpoints"


def observer(
    config: Config,
    log_dir: Path,
    heldout: HeldOut | Sequence[HeldOut] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    metrics: Mapping[str, MetricFunction] | None = None,
    media: Mapping[str, Renderer] | None = None,
    callbacks: Sequence[Callback] = (),
    save: Saver | None = None,
    closing: Sequence[Callable[[], None]] = (),
) -> Observer:
    """Everything that observes one run, ready to be handed its steps; in all processes but the first, what helps it.

    `closing` is called when it closes, last. Raises `SinkError` when a sink cannot start or another process writes this
    run, and `ConfigError` for held-out data or a scorer that cannot be used, a metric function that cannot be imported,
    an object that is no callback, or several processes that may be waited for longer than the end of the run waits.
    """
    functions = metric_functions(config.metrics.custom, metrics or {})
    check_callbacks(callbacks)
    if process_count() > 1:
        _check_waits(config)
    if not is_main():
        return _follower(config, log_dir, closing, save, asks=_may_ask(config, callbacks))
    alerts = _alerts(config)
    validations = validations_of(config, heldout, scorers)
    with ExitStack() as undone:
        if validations:
            undone.callback(validations.close)
        lock = _locked(log_dir)
        undone.callback(lock.release)
        _write_config(config, log_dir)
        logger = _logger(config, log_dir, alerts)
        undone.pop_all()
    text = TextMetrics(config.metrics)
    others = team(config.processes, logger.complaints)
    all_callbacks: list[Callback] = [
        metrics_callback(config.metrics, text, others),
        *_callbacks(config, functions),
        MediaCallback(config.media, media or {}),
        CheckpointCallback(config.checkpoints, log_dir / CHECKPOINTS),
        *alerts,
        *callbacks,
    ]
    closing = [text.close, lock.release, *([others.close] if others else []), *closing]
    agreed = agreement(_may_ask(config, callbacks), config.processes.wait_s, logger.complaints)
    if validations is None:
        return Observer(logger, all_callbacks, None, log_dir, closing, save, agreed, config)
    if config.validation.overlap:
        all_callbacks.append(OverlapCallback(validations.add))
    validation = _validation(config.validation, validations, logger)
    return Observer(logger, all_callbacks, validation, log_dir, [validations.close, *closing], save, agreed, config)


def _follower(
    config: Config, log_dir: Path, closing: Sequence[Callable[[], None]], save: Saver | None, asks: bool
) -> Observer:
    """What observes in another process than the first: measures for process 0, does what that wants, writes nothing."""
    logger = Logger((), **config.queue.model_dump())
    others = team(config.processes, logger.complaints)
    agreed = agreement(asks, config.processes.wait_s, logger.complaints)
    if others is None:
        _log.info("process %d does not log: process 0 does", process_index())
        return Observer(logger, (), None, log_dir, closing, save, agreed, config)
    text = TextMetrics(config.metrics)
    callback = metrics_callback(config.metrics, text, others)
    return Observer(logger, [callback], None, log_dir, [text.close, others.close, *closing], save, agreed, config)


def _check_waits(config: Config) -> None:
    waits = config.processes.wait_s * 4 / 3  # all its waits for a process that is silent come to that
    if config.processes.enabled and waits >= config.queue.close_s:
        raise ConfigError(
            f"processes.wait_s: {config.processes.wait_s:g}: process 0 may wait {waits:g} s for another process, and "
            f"the end of the run only waits {config.queue.close_s:g} s for everything: expected less than 3/4 of "
            "queue.close_s"
        )


def _may_ask(config: Config, callbacks: Sequence[Callback]) -> bool:
    """Whether there is a callback that may ask for something: only then the processes agree after each step."""
    return config.checkpoints.enabled or (config.plateau.enabled and config.plateau.stop) or bool(callbacks)


def validations_of(
    config: Config,
    heldout: HeldOut | Sequence[HeldOut] | None,
    scorers: Mapping[str, Scorer] | None,
    count: int | None = None,
) -> Series | None:
    """What validates on the data that is given or that the settings name, `count` problems or those of the settings.

    None where there is no data, or validation is off. Raises as `toolkit.validation.series.series` does.
    """
    settings = config.validation.limited(count) if count else config.validation
    return series(settings, config.metrics.format.tags, heldout, scorers) if settings.enabled else None


def _logger(config: Config, log_dir: Path, alerts: Sequence[Processor]) -> Logger:
    """The logger to all sinks, with the configuration as its first row; our own log hides secrets from then on."""
    logging.getLogger("toolkit").addFilter(hide_in_message)
    logger = Logger(backends.sinks(config, log_dir), [*_processors(config), *alerts], **config.queue.model_dump())
    logger.log(0, {"config": HParams(flat(config))}, stream="system")
    return logger


def _callbacks(config: Config, functions: Mapping[str, MetricFunction]) -> list[Callback]:
    """All but the metrics. Those that are switched off are there too, and are never due."""
    return [
        SamplesCallback(config.samples),
        CustomCallback(config.metrics.custom, functions),
        BatchCallback(config.batch),
        LayersCallback(config.layers),
        ProgressCallback(config.progress),
        MemoryCallback(config.metrics.memory),
        HealthCallback(config.metrics.observer),
    ]


def _alerts(config: Config) -> list[AlertsCallback]:
    """One callback for all rules; none where all of them are off."""
    checkpoint = config.checkpoints.enabled and config.checkpoints.on_alert
    watched: list[Rule] = [*rules(config.alerts, checkpoint)] if config.alerts.enabled else []
    if config.plateau.enabled:
        watched.append(PlateauRule(config.plateau, checkpoint))
    return [AlertsCallback(watched, config.alerts.window)] if watched else []


def _processors(config: Config) -> list[Processor]:
    rewards, compute = config.metrics.rewards, config.metrics.compute
    trends: list[Processor] = [RewardTrends(rewards.window)] if rewards.enabled else []
    cost: list[Processor] = [_compute_cost(compute)] if compute.enabled else []
    return [_filled, *trends, *cost, redacted]  # secrets last: whatever makes text comes before


def _filled(record: Record) -> Record | None:
    """Nothing for a row that only did something on the worker thread."""
    return record if record.values else None


def _compute_cost(settings: ComputeFamily) -> ComputeCost:
    kinds = device_kinds()
    known = peak_flops(kinds[0]) if kinds else None
    return ComputeCost(settings, settings.peak_flops or known, settings.devices or max(1, len(kinds)))


def _validation(settings: Validation, validations: Series, logger: Logger) -> ValidationCallback:
    validator = BackgroundValidator(validations.reports, settings.close_s, logger.complaints, settings.budget_s)
    return ValidationCallback(settings, validator, validations.data)


def _locked(log_dir: Path) -> RunLock:
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        return RunLock(log_dir)
    except OSError as error:
        raise _unwritable(log_dir, error) from error


def _write_config(config: Config, log_dir: Path) -> None:
    """Write the resolved configuration, which also shows before training starts that the directory can be written."""
    try:
        draft = log_dir / "config.yaml.new"
        draft.write_text(as_yaml(config))
        os.replace(draft, log_dir / "config.yaml")
    except OSError as error:
        raise _unwritable(log_dir, error) from error


def _unwritable(log_dir: Path, error: OSError) -> SinkError:
    return SinkError(f"log_dir {str(log_dir)!r} cannot be written: {error.strerror}")
