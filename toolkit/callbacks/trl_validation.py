"""The model that TRL trains, validated while the training goes on."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from toolkit.callbacks.observer import Observer
from toolkit.errors import PolicyError
from toolkit.own_log import log as _log
from toolkit.settings.callbacks import Validation
from toolkit.validation.policies.draw import Sampling
from toolkit.validation.policies.model import ModelPolicy
from toolkit.validation.policies.process import ProcessPolicy
from toolkit.validation.policy import InlinePolicy, Policy
from toolkit.validation.shadow import ShadowPolicy


class TRLValidation(TrainerCallback):
    """Hands the policy to the observer before the first step, when it is due, and when training stops.

    On a thread, by a second model. Where the model cannot be built twice the training waits for each validation; where
    it is spread over processes, it is saved and a process of its own loads it. The log says which it is.
    """

    def __init__(self, trainer: Trainer, observer: Observer, settings: Validation) -> None:
        self._trainer: Any = trainer
        self.observer = observer
        self._settings = settings
        self._policy: Policy | None = None
        self._handed_in: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Validate the policy that training begins with."""
        self.observer.start(state.global_step, state.max_steps)
        self._handed_in = None
        self._validate(state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Validate the policy of this step, if it is due or the last one."""
        self._validate(state.global_step, last=control.should_training_stop)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Validate the last policy, where that it is the last was said after this callback had its turn."""
        if args.load_best_model_at_end:
            self.observer.forget_policy()  # the model has other weights by now
        else:
            self._validate(state.global_step, last=True)

    def _validate(self, step: int, last: bool = False) -> None:
        if step != self._handed_in and (last or self._settings.due(step)):
            self._handed_in = step
            try:
                self._submit(step, last)
            except Exception as error:  # whatever a model or a trainer raises, the training goes on
                self.observer.logger.complaints.add(f"the validation of step {step}", error)

    def _submit(self, step: int, last: bool) -> None:
        if is_sharded(self._trainer):
            self.observer.validate(step, self._saved(step), always=last, at_end_of_step=True)
            return
        if self._policy is None:
            self._policy = policy_of(self._trainer, self._settings)
        self.observer.validate(step, self._policy, always=last, at_end_of_step=True)

    def _saved(self, step: int) -> Policy:
        """The policy of this step in a directory that goes with it; all processes save it together."""
        directory = Path(self._trainer.args.output_dir) / f"validated-{step}"
        self._trainer.save_model(str(directory))
        policy = ProcessPolicy(directory, _sampling(self._trainer, self._settings), **_batches(self._settings))
        if self._trainer.is_world_process_zero():
            weakref.finalize(policy, shutil.rmtree, directory, ignore_errors=True)
        return policy


def attach_validation(trainer: Trainer, observer: Observer, before: TrainerCallback) -> None:
    """Validate the trainer's model from now on: in its first process, or in all that must save it together.

    It stands `before` what observes, so that a checkpoint it asks for is that of the policy it validates.
    """
    settings, callbacks = observer.config.validation, trainer.callback_handler.callbacks
    attached = any(isinstance(each, TRLValidation) and each.observer is observer for each in callbacks)
    if attached or not (observer.validates or (is_sharded(trainer) and settings.enabled)):
        return
    if is_sharded(trainer):
        _log.info("validation: the model is spread over processes: it is saved, and loaded by one of its own")
    place = callbacks.index(before) if before in callbacks else len(callbacks)
    callbacks.insert(place, TRLValidation(trainer, observer, settings))


def policy_of(trainer: Any, settings: Validation) -> Policy:
    """The trainer's model as a policy for another thread, or for the training's own where that cannot be."""
    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    sampling, batches = _sampling(trainer, settings), _batches(settings)
    # Before it hands them to vLLM, TRL adds an adapter to the base's weights, and takes it out again.
    shared = not getattr(trainer.args, "use_vllm", False)
    try:
        _expect_copyable(model)
        return ShadowPolicy(model, tokenizer, sampling, shared=shared, **batches)
    except Exception as error:  # a model's own code, or no memory for a second one
        _log.warning("validation: no second model beside the training's, which waits for each validation: %s", error)
        return InlinePolicy(ModelPolicy(model, tokenizer, sampling, **batches))


def is_sharded(trainer: Any) -> bool:
    """Whether no process alone has the whole model."""
    return bool(getattr(trainer, "is_fsdp_enabled", False) or getattr(trainer, "is_deepspeed_enabled", False))


def _expect_copyable(model: Any) -> None:
    if getattr(model, "is_quantized", False) or getattr(model, "quantization_method", None):
        raise PolicyError("it is quantised")


def _sampling(trainer: Any, settings: Validation) -> Sampling:
    """Greedy, and no longer than the completions of the training."""
    longest = getattr(trainer.args, "max_completion_length", None) or settings.max_new_tokens
    return Sampling(min(settings.max_new_tokens, longest))


def _batches(settings: Validation) -> dict[str, Any]:
    return {"batch_size": settings.batch_size, "templated": settings.templated}
