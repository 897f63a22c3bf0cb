"""What a configuration says of a trainer of TRL: the clip range of its loss, its size, how it reuses completions."""

from __future__ import annotations

from typing import Any

from transformers import Trainer

from toolkit.config import Config
from toolkit.own_log import log as _log


def fitted(config: Config, trainer: Trainer) -> Config:
    """The configuration with what is known of the trainer."""
    return _with_size(_with_clip_range(config, trainer.args), trainer)


def check_clip_range(config: Config, args: Any) -> None:
    """Warn where `policy/clip_*` would count something else than the trainer's loss clips."""
    counted, clipped = _clip_range_of(config), _clip_range(args)
    if clipped and counted != clipped:
        _log.warning(
            "policy/clip_* count what is clipped at %s, and the trainer clips at %s: set metrics.policy.clip_low=%g"
            " and clip_high=%g, or use toolkit.watch, which does",
            counted,
            clipped,
            *clipped,
        )


def _clip_range(args: Any) -> tuple[float, float] | None:
    """How far below and above 1 the trainer's loss clips a ratio, if it does."""
    low = getattr(args, "epsilon", None)
    if low is None:
        return None
    high = getattr(args, "epsilon_high", None)
    high = low if high is None else high
    # CISPO has no lower bound, and its upper one bounds the ratio itself.
    return (1.0, high - 1.0) if getattr(args, "loss_type", None) == "cispo" else (low, high)


def _clip_range_of(config: Config) -> tuple[float, float]:
    return config.metrics.policy.clip_low, config.metrics.policy.clip_high


def _with_clip_range(config: Config, args: Any) -> Config:
    """The configuration with the clip range that the trainer's loss has, if it has one."""
    low, high = _clip_range(args) or _clip_range_of(config)
    policy = config.metrics.policy.model_copy(update={"clip_low": low, "clip_high": high})
    return config.model_copy(update={"metrics": config.metrics.model_copy(update={"policy": policy})})


def _with_size(config: Config, trainer: Trainer) -> Config:
    """The configuration with what `compute/` needs to know of the training, and of the model where it is not given."""
    compute = config.metrics.compute
    model: Any = getattr(trainer, "model", None)
    parameters = compute.parameters
    if parameters is None and model is not None:
        parameters = sum(weight.numel() for weight in model.parameters())
    passes = getattr(trainer.args, "num_iterations", 1)
    batches = getattr(trainer.args, "steps_per_generation", None) or 1
    steps = max(1, passes * batches // getattr(trainer.args, "gradient_accumulation_steps", 1))
    known = compute.model_copy(update={"parameters": parameters or None, "passes": passes, "steps": steps})
    return config.model_copy(update={"metrics": config.metrics.model_copy(update={"compute": known})})
