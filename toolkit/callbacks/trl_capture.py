"""What TRL's trainer computes on its way, copied as it passes: rewards, advantages, the statistics of each token.

Methods of the one trainer are wrapped, and every argument and result goes through them untouched. The training thread
only clones small tensors where they are; the worker thread fetches them and puts them together (`trl_rollout`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

from toolkit.callbacks import Gathered
from toolkit.callbacks.methods import Level, Methods
from toolkit.callbacks.naming import unique
from toolkit.callbacks.trl_rollout import Scored, Tensors, references, rewards_of_all, rollout_of, update_of
from toolkit.callbacks.trl_timing import Timing
from toolkit.processes import process_count, process_index
from toolkit.rollout import Rollout

_OF_LOSS = {
    "advantages": "advantages",
    "tool_mask": "tool_mask",
    "old_per_token_logps": "old_logp",
    "ref_per_token_logps": "ref_logp",
    "sampling_per_token_logps": "sampler_logp",
}
"""What the loss is given on some runs and not on others, and its name in a rollout."""


class Capture:
    """Copies what passes through a trainer between `attach` and `detach`; `take` hands over a step's share of it.

    Only what is trained on: what an evaluation generates never gets in. Lives on the training thread and raises
    nothing into it. `passed` is called when the loss of a micro-batch is computed, and returns the seconds of it that
    are counted elsewhere.
    """

    def __init__(self, trainer: Any, passed: Callable[[], float] = lambda: 0.0) -> None:
        self._trainer = trainer
        self._call_passed = passed
        self._rewards = Level("rewards and completions")
        self._advantages = Level("advantages")
        self._tokens = Level("logprobs of tokens")
        self._entropy = Level("entropy of tokens")
        self._methods = Methods(trainer)
        self._timing = Timing(trainer, self._methods)
        self._first_step = True
        self._process, self._in_group = 0, False
        self.forget()

    def attach(self) -> None:
        """Look at the methods of the trainer that are there; one that is missing is said once."""
        # Asked once: to find out takes 10 us, and the group is there since the trainer is.
        self._process, self._in_group = process_index(), process_count() > 1
        self._timing.attach()
        looks: tuple[tuple[str, Level, Callable[..., None]], ...] = (
            ("_calculate_rewards", self._rewards, self._saw_rewards),
            ("_generate_and_score_completions", self._advantages, self._saw_generation),
            ("_get_per_token_logps_and_entropies", self._tokens, self._saw_pass),
            ("_compute_loss", self._tokens, self._saw_loss),
        )
        for method, level, look in looks:
            self._methods.look_at(method, level, look)

    def detach(self) -> None:
        """Give the trainer its methods and functions back."""
        self._methods.restore()
        self._timing.detach()
        self.forget()

    def spent_s(self) -> float:
        """The seconds that looking took on the training thread since this was last asked."""
        spent, self._methods.spent_s = self._methods.spent_s, 0.0
        return spent

    def forget(self) -> None:
        """Drop what was copied and timed since the last step."""
        self._let_go()
        self._timing.forget()

    def _let_go(self) -> None:
        self._scored: list[Scored] = []
        self._generated: list[Tensors] = []
        self._passed: Tensors = {}
        self._updated: list[Tensors] = []
        self._given = self._copied()

    def _copied(self) -> tuple[int, int, int]:
        return len(self._scored), len(self._generated), len(self._updated)

    def take(self) -> tuple[Callable[[], Rollout] | None, Callable[[], Rollout] | None]:
        """What was copied of the step that ends, as functions that give a rollout and an update.

        None for nothing, as where a step reuses older completions, and for what `so_far` gave whole already.
        """
        self._check_first_step()
        rollout, update = self.so_far() if self._copied() != self._given else (None, None)
        self._let_go()
        return rollout, update

    def so_far(self) -> tuple[Callable[[], Rollout] | None, Callable[[], Rollout] | None]:
        """The same of the step up to now, which goes on."""
        self._check_first_step()
        rollout: Callable[[], Rollout] | None = None
        if self._scored or self._generated:
            rollout = partial(rollout_of, self._scored[:], self._generated[:], self._timing.latencies())
        if rollout and self._scored and self._in_group:
            rollout = Gathered(rollout, partial(rewards_of_all, self._scored[:]))
        update = partial(update_of, self._updated[:]) if self._updated else None
        self._given = self._copied()
        return rollout, update

    def take_timings(self) -> dict[str, float]:
        """The seconds of the phases of the step that ends."""
        return self._timing.take()

    def _check_first_step(self) -> None:
        """The first step generates, scores and updates: what was not seen then takes a way that is not known here."""
        if not self._first_step:
            return
        self._first_step = False
        for level, seen in (
            (self._rewards, self._scored),
            (self._advantages, self._generated),
            (self._tokens, self._updated),
        ):
            if not seen:
                level.give_up(f"{type(self._trainer).__name__} took its first step without the methods that give them")

    def _saw_rewards(self, result: Any, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> None:
        trainer = self._trainer
        if not trainer.model.training:
            return
        self._scored.append(
            Scored(
                rewards=_copy(result),
                names=unique(trainer.reward_func_names),
                weights=trainer.reward_weights.detach(),  # nobody writes into them
                group_size=trainer.num_generations,
                prompts=list(prompts),
                completions=list(completions),
                references=references(inputs),
                ids=list(completion_ids_list),
                ends=self._ends,
                process=self._process,
            )
        )

    @cached_property
    def _ends(self) -> frozenset[int]:
        """The tokens that a completion which was not cut off ends with; a tokenizer looks them up each time."""
        trainer = self._trainer
        tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
        return frozenset({tokenizer.eos_token_id, tokenizer.pad_token_id, *getattr(trainer, "eos_token_ids", ())})

    def _saw_generation(self, result: Any, inputs: Any) -> None:
        if self._trainer.model.training:
            advantages = _copy(result["advantages"])
            self._generated.append({"advantages": advantages, **_copies(result, {"tool_mask": "tool_mask"})})

    def _saw_pass(self, result: Any, *_: Any, **__: Any) -> None:
        logp, entropy = result[0], result[1]
        if not logp.requires_grad:  # the old policy's or the reference's: only the update's own pass has gradients
            return
        self._passed = {"logp": _copy(logp)}
        if entropy is None:
            self._entropy.give_up(f"{type(self._trainer).__name__} did not compute it")
        else:
            self._passed["entropy"] = _copy(entropy)

    def _saw_loss(self, result: Any, model: Any, inputs: Any) -> None:
        passed, self._passed = self._passed, {}
        if passed:
            self._updated.append({**passed, "mask": _copy(inputs["completion_mask"]), **_copies(inputs, _OF_LOSS)})
            self._methods.spent_s -= self._call_passed()


def _copies(tensors: Mapping[str, Any], names: Mapping[str, str]) -> Tensors:
    return {ours: _copy(tensors[theirs]) for theirs, ours in names.items() if tensors.get(theirs) is not None}


def _copy(tensor: Any) -> Any:
    return tensor.detach().clone()
