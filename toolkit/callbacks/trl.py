"""TRL's `GRPOTrainer`, and of any other `transformers.Trainer` the scalars it logs.

Four things are taken in, each by itself, so that a host that changes costs one of them and not the run: what the
trainer logs, by its callbacks; the completions with their rewards and advantages, and the statistics of each token
(`trl_capture`); and how long the phases of a step take (`trl_timing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import jax
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from toolkit.callbacks.methods import Level
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.trl_capture import Capture
from toolkit.callbacks.trl_config import check_clip_range, fitted
from toolkit.callbacks.trl_drift import Drift, problems
from toolkit.callbacks.trl_validation import TRLValidation, attach_validation
from toolkit.config import Config
from toolkit.own_log import log as _log
from toolkit.record import Value
from toolkit.tensors import tensor_statistics

_GENERATING = ("_generate_and_score_completions", "_calculate_rewards")


def attach(
    trainer: Trainer,
    config: Config,
    directory: str | Path | None,
    make: Callable[[Config, Path], Observer],
) -> Observer:
    """Observe the trainer until its training ends, with the observer that `make` gives for a config and a directory.

    `directory` is `toolkit/` in the trainer's `output_dir` if it is None. The clip range of `policy/` is the
    trainer's own; its shares are of tokens, also where the trainer clips the ratio of a whole sequence. Of several
    processes each observes its own rows. Raises what `make` raises, before anything of the trainer is touched.
    """
    _keep_jax_on_the_cpu()
    directory = Path(directory or f"{trainer.args.output_dir}/toolkit")
    observer = make(fitted(config, trainer), directory)
    _remove_ended(trainer)
    callback = TRLCallback(observer)
    trainer.add_callback(callback)
    callback.attach(trainer)
    return observer


class TRLCallback(TrainerCallback):
    """Passes the steps and the logged scalars of a `transformers.Trainer` on to an observer, and closes it at the end.

    | key | what |
    |---|---|
    | `trainer/KEY` | what the trainer logs, evaluation included, under the trainer's own keys |
    | `layers/*` | of what is trained: gradients as they were clipped, weights before the update |

    The trainer logs after a step has ended and not after every one, so its scalars are a row of their own. All other
    metrics come with `attach`, which a callback needs once its trainer is there; `toolkit.watch` does both:

        callback = TRLCallback(toolkit.observe("grpo", log_dir="runs/a"))
        trainer = GRPOTrainer(..., callbacks=[callback])
        callback.attach(trainer)

    What callbacks ask for is passed on to the trainer: to save, and to stop. The settings are those of the observer.
    Only `toolkit.watch` takes the clip range of `policy/`, the model's size and how many steps share a generation from
    the trainer: here they are given, as `metrics.policy` and `metrics.compute`.
    """

    def __init__(self, observer: Observer) -> None:
        _keep_jax_on_the_cpu()
        self.observer = observer
        self._config = observer.config
        self._capture: Capture | None = None
        self._drift: Drift | None = None
        self._drifting = Level("drift of the policy")
        self._reducing = Level("norms of layers")
        self._measuring_ahead = Level("a step before it ends")
        self._trees: Callable[[], Mapping[str, Value]] | None = None
        self._saves_for_us = False
        self._trained = False

    def attach(self, trainer: Trainer) -> None:
        """Observe what passes through this trainer too, until its training ends, and validate on held-out data."""
        attach_validation(trainer, self.observer, before=self)
        if not any(hasattr(trainer, method) for method in _GENERATING):
            _log.warning("%s is not a GRPOTrainer: of it only what it logs is observed", type(trainer).__name__)
            return
        self._capture = capture = Capture(trainer, lambda: self._measured_ahead(trainer, capture))
        self._capture.attach()
        check_clip_range(self._config, trainer.args)
        if trainer.is_world_process_zero():
            self._drift = self._drifting.tried("it cannot be measured", lambda: self._drift_of(trainer))

    def detach(self) -> None:
        """Give the trainer its methods back; its steps and scalars are observed as before."""
        if self._capture is not None:
            self._capture.detach()
        self._drift = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin the run: forget what an earlier, broken-off training left, take the initial policy's logprobs."""
        if state.is_world_process_zero:
            self.observer.start(state.global_step, state.max_steps)
            self._say_what_will_be_missed(args)
        if self._trained:  # what an earlier training was asked, which broke off
            self.observer.forget_asks()
        self._trained = True
        self.observer.forget_checkpoint()  # a trainer saves after a step, when the policy is another one
        if self._capture is not None:
            self._capture.forget()
        if (drift := self._drift) is not None:
            self._drifting.tried("the initial policy cannot be run", lambda: drift.start(state.global_step))

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Reduce gradients and weights to their norms while both are there, when that is due."""
        layers, step = self._config.layers, state.global_step + 1
        histograms = layers.enabled and layers.histograms.due(step)
        if model is not None and state.is_world_process_zero and (layers.due(step) or histograms):
            self._trees = self._reducing.tried("they cannot be read", lambda: _reduced(model, histograms))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Hand over what the step gave; it is put together and measured on the worker thread."""
        rollout, update, timings = None, None, {}
        if self._capture is not None:
            rollout, update = self._capture.take()
            timings = self._capture.take_timings()
            self.observer.overhead_s += self._capture.spent_s()
        trees, self._trees = self._trees, None
        self.observer.step(state.global_step, rollout, update=update, timings=timings, trees=trees)
        self._log_drift(state.global_step)
        if self.observer.agrees and not self.observer.closed:  # of several processes all must know
            asked = self.observer.asks.checkpoint is not None
            # The best by the trainer's own metric may be any, and an evaluation may have a callback of the user's save.
            for_others = control.should_save or control.should_evaluate or args.metric_for_best_model
            self._saves_for_us = asked and not for_others
            control.should_save |= asked
            control.should_training_stop |= self.observer.asks.stop is not None

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Tell the callbacks of the trainer's checkpoint."""
        expendable, self._saves_for_us = self._saves_for_us, False  # at the end of an epoch it may save once more
        if not self.observer.closed:
            checkpoint = f"{args.output_dir}/{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            self.observer.saved(state.global_step, checkpoint, expendable=expendable)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log the scalars; `Trainer.evaluate` passes its own here too, and TRL gives None for a mean over nothing."""
        given = {key: value for key, value in of_data_set(logs or {}).items() if value is not None}
        if state.is_world_process_zero and given:
            self.observer.log(state.global_step, {"trainer": given})

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Give the trainer its methods back, and write everything."""
        self.detach()
        self.observer.close()

    def _say_what_will_be_missed(self, args: TrainingArguments) -> None:
        if self.observer.closed:
            _log.warning("not observed: this run ended with an earlier training; call toolkit.watch before each")
        if self._capture is None and hasattr(args, "num_generations"):
            _log.warning("TRLCallback.attach(trainer) was not called: only what the trainer logs is observed")
        if args.save_total_limit and self._config.checkpoints.enabled:
            _log.warning(
                "the trainer deletes all checkpoints but the last %d (save_total_limit), also the best by what is held "
                "out: leave it unset, and checkpoints.keep counts those that were asked for",
                args.save_total_limit,
            )

    def _measured_ahead(self, trainer: Any, capture: Capture) -> float:
        """Have the step measured while the trainer goes backward through its last loss; what the observer counts of it.

        The backward pass needs the interpreter little (with checkpoints of activations more), the generation of the
        next step for every token.
        """
        overhead_s = self.observer.overhead_s
        self._measuring_ahead.tried("the trainer is not what was expected", lambda: self._measure(trainer, capture))
        return self.observer.overhead_s - overhead_s

    def _measure(self, trainer: Any, capture: Capture) -> None:
        if trainer.accelerator.sync_gradients:  # not before the last micro-batch
            rollout, update = capture.so_far()
            self.observer.ahead(trainer.state.global_step + 1, rollout, update=update)

    def _log_drift(self, step: int) -> None:
        if (drift := self._drift) is None:
            return
        began = perf_counter()
        if values := self._drifting.tried("the policy cannot be run", lambda: drift.values(step)):
            self.observer.logger.log(step, values)
            self.observer.overhead_s += perf_counter() - began

    def _drift_of(self, trainer: Any) -> Drift | None:
        """The drift of a trainer without a reference model; none where one process alone cannot run the policy."""
        sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
        directory = self.observer.log_dir
        if not self._config.metrics.drift.enabled or directory is None or trainer.args.beta or sharded:
            return None
        data = trainer.eval_dataset if trainer.eval_dataset is not None else problems(self.observer.heldout)
        if not data:
            _log.info("policy/kl_init_* are not measured: there is neither an eval_dataset of the trainer nor heldout")
            return None
        return Drift(trainer, data, self._config.metrics.drift, directory)


def _remove_ended(trainer: Trainer) -> None:
    """Take out what observed an earlier training of this trainer."""
    for each in [*trainer.callback_handler.callbacks]:
        if isinstance(each, (TRLCallback, TRLValidation)) and each.observer.closed:
            if isinstance(each, TRLCallback):
                each.detach()  # a training that broke off left it looking
            trainer.remove_callback(each)


def _reduced(model: torch.nn.Module, histograms: bool) -> Callable[[], Mapping[str, Value]]:
    """The norms of each layer that is trained, to be fetched by another thread."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    gradients = {name: weight.grad for name, weight in trained.items()}
    return tensor_statistics(gradients=gradients, parameters=trained, histograms=histograms)


def of_data_set(logs: Mapping[str, Any]) -> dict[str, Any]:
    """What the trainer logs, with the name of the data set in each key of an evaluation on one of several.

    transformers puts it into its own keys, such as `eval_NAME_loss`; TRL's would be the same for every set.
    """
    found = (key.removesuffix("runtime") for key in logs if key.startswith("eval_") and key.endswith("_runtime"))
    prefix = next(found, "eval_")
    return {
        key if key.startswith(prefix) or not key.startswith("eval_") else prefix + key.removeprefix("eval_"): value
        for key, value in logs.items()
    }


def _keep_jax_on_the_cpu() -> None:
    """Keep JAX, which would reserve most of an accelerator's memory, away from the one that torch trains on.

    Whoever chose a platform, by JAX_PLATFORMS or in code, keeps it; a backend that JAX already runs on is not changed.
    """
    settings: Any = jax.config  # it has no types
    if not settings.jax_platforms:
        settings.update("jax_platforms", "cpu")
