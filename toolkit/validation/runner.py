"""`validate`: a policy, held-out problems and scorers give a report. Pure and synchronous."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite, nan
from types import MappingProxyType

from toolkit.errors import ToolkitError
from toolkit.record import Table, Value
from toolkit.text.answer import final_answer
from toolkit.validation.heldout import HeldOut
from toolkit.validation.mistakes import MistakeFinder, Mistakes
from toolkit.validation.overlap import Overlap, OverlapReport
from toolkit.validation.policy import Policy
from toolkit.validation.scorers import Scorer, scored
from toolkit.validation.statistics import Estimate, attempt_sizes, attempts, estimate, right_or_wrong

_EXAMPLES = 4


@dataclass(frozen=True)
class Report:
    """What was measured on one held-out data set, for the policy of one step.

    A score is NaN where there is none; `failures` says for each scorer, by row, why it has none. `mistakes` are the
    error patterns, with those of the validation `before`, `overlap` is what the data set shares with the training, and
    `macro` the means over all data sets of this step, where this one is the last of several.
    """

    dataset: str
    fingerprint: str
    policy_step: int
    duration_s: float
    prompts: Sequence[str]
    completions: Sequence[str]
    references: Sequence[str]
    scores: Mapping[str, Sequence[float]]
    failures: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    mistakes: Mistakes | None = None
    before: Mistakes | None = None
    overlap: OverlapReport | None = None
    macro: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def estimates(self) -> Mapping[str, Estimate]:
        """Mean, standard error and interval of each scorer that gave a score at all.

        With several samples a prompt there are those of k attempts at it too, and where problems overlap with the
        training `accuracy_without_overlap`.
        """
        every = {**self.scores, **self._without_overlap()}
        found = {name: estimate(scores, self.prompts) for name, scores in every.items() if any(map(isfinite, scores))}
        right = self.scores.get("accuracy", ())
        if right and right_or_wrong(right):
            answers = [final_answer(completion) for completion in self.completions]
            for k in attempt_sizes(self.prompts):
                found |= attempts(right, self.prompts, k, answers)
        return MappingProxyType(found)  # all who read the report share it

    def values(self) -> dict[str, Value]:
        """The report as metrics under `heldout/DATASET/`, with a few completions to read."""
        metrics: dict[str, Value] = {"duration_s": self.duration_s, "samples": self.examples()}
        for name, found in self.estimates.items():
            metrics |= {
                name: found.mean,
                f"{name}_se": found.se,
                f"{name}_low": found.low,
                f"{name}_high": found.high,
            }
        metrics |= {f"{name}_failed": float(len(rows)) for name, rows in self.failures.items()}
        metrics |= self.overlap.values() if self.overlap else {}
        metrics |= self.mistakes.values(self._texts(), self.before) if self.mistakes else {}
        macro = {f"heldout/macro/{name}": mean for name, mean in self.macro.items()}
        return {f"heldout/{self.dataset}/{key}": value for key, value in metrics.items()} | macro

    def examples(self) -> Table:
        """The first completions, each with its prompt, its reference and its scores."""
        texts = self._texts()
        rows = zip(*texts.values(), *self.scores.values(), strict=True)
        return Table((*texts, *self.scores), list(rows)[:_EXAMPLES])

    def _texts(self) -> dict[str, Sequence[str]]:
        return {"prompt": self.prompts, "completion": self.completions, "reference": self.references}

    def _without_overlap(self) -> dict[str, Sequence[float]]:
        """The accuracy with no value for what the training has seen."""
        if not (self.overlap and self.overlap.found and "accuracy" in self.scores):
            return {}
        seen, pairs = self.overlap.prompts, zip(self.scores["accuracy"], self.prompts, strict=True)
        return {"accuracy_without_overlap": [nan if prompt in seen else score for score, prompt in pairs]}


def validate(
    policy: Policy,
    heldout: HeldOut,
    scorers: Mapping[str, Scorer],
    policy_step: int = 0,
    *,
    mistakes: MistakeFinder | None = None,
    before: Mistakes | None = None,
    overlap: Overlap | None = None,
) -> Report:
    """Ask the policy every held-out prompt and score what it answers.

    With `mistakes` the completions whose `accuracy` is under 1 get their error pattern. Raises `ToolkitError` when the
    policy or a scorer does not give one answer a prompt; what the policy raises passes through.
    """
    started = time.monotonic()
    completions = policy.generate(heldout.prompts)
    _expect_one_each("the policy", completions, heldout)
    report = judged(heldout, completions, scorers, policy_step, mistakes=mistakes, before=before)
    duration_s = time.monotonic() - started
    return replace(report, duration_s=duration_s, overlap=overlap.report() if overlap else None)


def judged(
    heldout: HeldOut,
    completions: Sequence[str],
    scorers: Mapping[str, Scorer],
    policy_step: int = 0,
    *,
    mistakes: MistakeFinder | None = None,
    before: Mistakes | None = None,
) -> Report:
    """What the scorers say of completions that are there, one of each problem. Raises as `validate` does."""
    started = time.monotonic()
    texts = heldout.prompts, completions, heldout.references
    found = {name: scored(scorer, *texts) for name, scorer in scorers.items()}
    for name, given in found.items():
        _expect_one_each(f"scorer {name!r}", given.values, heldout)
    right = found["accuracy"].values if "accuracy" in found else None
    return Report(
        dataset=heldout.name,
        fingerprint=heldout.fingerprint,
        policy_step=policy_step,
        duration_s=time.monotonic() - started,
        prompts=heldout.prompts,
        completions=completions,
        references=heldout.references,
        scores={name: given.values for name, given in found.items()},
        failures={name: given.failures for name, given in found.items()},
        mistakes=mistakes(*texts, right) if mistakes and right else None,
        before=before,
    )


def _expect_one_each(who: str, answers: Sequence[object], heldout: HeldOut) -> None:
    if len(answers) != len(heldout.prompts):
        raise ToolkitError(
            f"{who} gave {len(answers)} answers to the {len(heldout.prompts)} prompts of {heldout.name!r}"
        )
