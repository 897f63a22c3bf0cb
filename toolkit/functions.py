"""The function-style face: one run a process, logged to by plain functions, from the first line on.

What is logged before `initialize` is kept, and goes with its own time where everything goes then. After it nothing here
raises into the training, and whatever takes time happens on the logger's worker thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.callbacks.batch import measure_batch
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.resources import Memory
from toolkit.config import Source
from toolkit.errors import ToolkitError
from toolkit.hold import hold_all
from toolkit.measure import measure
from toolkit.record import Table
from toolkit.rollout import Rollout
from toolkit.shared import SharedRun
from toolkit.text.reasoning import split
from toolkit.texts import measure_format
from toolkit.trend import Trend
from toolkit.validation.heldout import HeldOut
from toolkit.validation.policies.draw import Sampling
from toolkit.validation.policies.model import ModelPolicy
from toolkit.validation.policy import FunctionPolicy, Policy
from toolkit.validation.runner import Report
from toolkit.validation.scorers import Scorer
from toolkit.values import unchanging

_run = SharedRun()
_memory = Memory()


def initialize(
    config: Source | None = None,
    log_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    heldout: HeldOut | Sequence[HeldOut] | None = None,
    scorers: Mapping[str, Scorer] | None = None,
) -> Observer:
    """Begin the run of this process: the arguments are those of `toolkit.observe`, the default preset is `text`.

    The file may also be a logging plan, with dictConfig's keys at its top. A second call with the same arguments does
    nothing. Raises `ConfigError` or `SinkError` for anything that could not work later, and `ToolkitError` where a run
    with other settings has begun.
    """
    return _run.begin("text" if config is None else config, log_dir, overrides, heldout, scorers)


def close() -> None:
    """Write everything and end the run; the end of the process does it too. Another `initialize` may follow."""
    _run.end()


def get_training_logger() -> logging.Logger:
    """The logger of the training's progress."""
    return _run.logger("training")


def get_model_logger() -> logging.Logger:
    """The logger of what the model puts out."""
    return _run.logger("model_outputs")


def get_reward_logger() -> logging.Logger:
    """The logger of the reward functions."""
    return _run.logger("rewards")


def get_system_logger() -> logging.Logger:
    """The logger of memory and the like."""
    return _run.logger("system")


def get_metrics_logger() -> logging.Logger:
    """The logger of metrics."""
    return _run.logger("metrics")


def log_model_output(
    question: str, true_answer: str, model_output: str, reasoning: str | None = None, **more: Any
) -> None:
    """Log one completion, in the table `model_outputs` at the last step that was logged.

    Its answer is what stands in the answer tag or is stated otherwise; so is its reasoning, where none is given. `more`
    are columns of your own.
    """

    def row() -> dict[str, Table]:
        tags = _run.config.metrics.format.tags
        thought, answer = split(model_output, tags[0], tags[-1])
        cells = {
            "question": question,
            "true_answer": true_answer,
            "model_answer": answer,
            "model_reasoning": thought if reasoning is None else reasoning,
            "model_output": model_output,
            **{name: cell if isinstance(cell, (float, int)) else str(cell) for name, cell in held.items()},
        }
        return {"model_outputs": Table(tuple(cells), [tuple(cells.values())])}

    held = unchanging(more)
    _run.guarded("a model output", lambda: _run.log(None, row, stream="samples"))


def log_reward(reward_name: str, values: Any, samples: Sequence[str] | None = None) -> None:
    """Log the values that a reward function gave, a number or None a completion, at the last step that was logged.

    `samples` are what was rewarded; they stand beside the values in the table `rewards/NAME/samples`.
    """
    _run.guarded(f"the reward {reward_name!r}", lambda: _log_reward(reward_name, values, samples))


def log_training_progress(step: int, metrics: Mapping[str, Any]) -> None:
    """A training step ended: log its scalars under `trainer/`, with the time since the last one."""
    _run.guarded(f"the progress of step {step!r}", lambda: _log_progress(int(step), metrics))


def log_memory_usage() -> None:
    """Log the memory of this process and its accelerators, as it is now."""
    if _run.config.metrics.memory.enabled:
        _run.guarded("the memory", lambda: _run.log(None, {"memory": _memory.use()}, stream="system"))


def log_reward_metrics(step: int, rewards_dict: Mapping[str, Any], history_window: int = 100) -> None:
    """Log statistics of each reward, of their sum as `total`, and their correlations.

    `moving_average` and `trend` are over the last `history_window` calls. Rewards are vectors over the same
    completions, with None or NaN where a function gave none.
    """

    def logged() -> None:
        rewards_of = _held(rewards_dict)
        _run.log(step, lambda: _with_history(_reward_values(rewards_of()), history_window))

    _run.guarded(f"the rewards of step {step!r}", logged)


def log_generation_metrics(step: int, generations: Sequence[str], references: Sequence[str] | None = None) -> None:
    """Log how long completions are, how much they repeat, their format, and against references whether they are right.

    Completions count as those of one prompt, all of them are looked at, and the families that are switched off are left
    out.
    """

    def logged() -> None:
        rollout = Rollout(completions=list(generations), references=references and list(references))
        _run.log(step, lambda: _generation_values(rollout, step))

    _run.guarded(f"the completions of step {step!r}", logged)


def run_validation(step: int, model: Any, tokenizer: Any = None, num_samples: int | None = None) -> Report | None:
    """Validate now, on the held-out problems of `initialize` or `validation.data`: log the report, and return it.

    `model` is a policy, a function from prompts to completions, or a transformers model with its tokenizer, which
    generates greedily and is as before afterwards. `num_samples` problems of each data set are asked, by default
    `validation.max_samples`. Of several data sets the last one's report is returned, which has the means over all.
    None where nothing could be validated; the log says why.
    """
    return _run.guarded(
        f"the validation of step {step!r}", lambda: _validated(int(step), model, tokenizer, num_samples)
    )


def _log_progress(step: int, metrics: Mapping[str, Any]) -> None:
    if _run.observer is None:
        _run.log(step, {"trainer": unchanging(metrics)})
    else:
        _run.step = step
        _run.observer.step(step, values=metrics)


def _log_reward(name: str, values: Any, samples: Sequence[str] | None) -> None:
    rewards_of = _held({name: values})
    _run.log(None, lambda: _without_total(_reward_values(rewards_of())))
    if samples is not None:
        texts = [str(sample) for sample in samples]
        _run.log(None, lambda: {f"rewards/{name}/samples": _rewarded(texts, rewards_of()[name])}, stream="samples")


def _held(rewards: Mapping[str, Any]) -> Callable[[], dict[str, list[float | None]]]:
    """Take hold of the vectors; the function gives them as lists, on the worker, which may wait for a device."""
    later = hold_all(unchanging(rewards))
    # A list is what every kind of array can become, those of torch on a GPU too.
    return lambda: {name: _listed(values) for name, values in later().items()}


def _listed(values: Any) -> list[float | None]:
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _reward_values(rewards: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    settings = _run.config.metrics
    if not settings.rewards.enabled:
        return {}
    return {**measure(Rollout(rewards=rewards), settings, frozenset({"rewards"})).values()}


def _without_total(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("rewards/total/")}


def _with_history(values: dict[str, Any], window: int) -> dict[str, Any]:
    for key in [key for key in values if key.endswith("/mean")]:
        name = key.removesuffix("/mean")
        trend = _run.trends.setdefault((name, window), Trend(window))
        trend.add(values[key])
        values |= {f"{name}/moving_average": trend.mean, f"{name}/trend": trend.slope}
    return values


def _rewarded(samples: Sequence[str], rewards: Sequence[float | None]) -> Table:
    return Table(("sample", "reward"), list(zip(samples, rewards, strict=True)))


def _generation_values(rollout: Rollout, step: int) -> dict[str, Any]:
    settings = _run.config.metrics
    texts = list(rollout.completions or ())
    values: dict[str, Any] = {}
    if settings.completions.enabled:
        sizes = measure_batch({"bytes": [len(text.encode("utf-8", "replace")) for text in texts]}, {}).values()
        values |= {key.replace("batch/bytes/", "completions/bytes_"): size for key, size in sizes.items()}
    if settings.format.enabled:
        values |= measure_format([rollout], settings.format).values()
    wanted = {"text": settings.text.enabled, "task": settings.task.enabled and rollout.references is not None}
    return values | _run.judged(rollout, frozenset(name for name in wanted if wanted[name]), step)


def _validated(step: int, model: Any, tokenizer: Any, num_samples: int | None) -> Report | None:
    config, observer = _run.config, _run.observer
    if observer is None:
        raise ToolkitError("there is no run yet: call initialize first")
    if not config.validation.enabled:
        return None
    validations = _run.validations(num_samples)
    if validations is None:
        raise ToolkitError("there are no held-out problems: initialize(heldout=...), or the setting validation.data")
    report = None
    for report in validations.reports(_policy(model, tokenizer), step):
        _run.log(step, {**report.values(), "time/validation_s": report.duration_s}, stream="heldout")
    return report


def _policy(model: Any, tokenizer: Any) -> Policy:
    settings = _run.config.validation
    if tokenizer is not None:
        return ModelPolicy(
            model,
            tokenizer,
            Sampling(settings.max_new_tokens),
            batch_size=settings.batch_size,
            templated=settings.templated,
            seconds_each=settings.timeout_per_sample_s,
        )
    if hasattr(model, "generate") and hasattr(model, "snapshot"):
        policy: Policy = model
        return policy
    if hasattr(model, "generate") or not callable(model):
        raise ToolkitError(
            f"a {type(model).__name__} cannot be validated: expected a policy, a function from prompts to completions, "
            "or a model of transformers with its tokenizer"
        )
    return FunctionPolicy(lambda _, prompts: model(prompts), ())
