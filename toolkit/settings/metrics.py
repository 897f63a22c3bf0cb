"""Settings of the metric families."""

from functools import cached_property
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from toolkit.settings import Scheduled, Seconds, Section, Share, has_turn


class Family(Scheduled):
    """A metric family."""

    every: PositiveInt = 1


class SampledFamily(Family):
    """A family that may look at a share of the completions only, drawn anew by each step."""

    sampling_ratio: Share = 1.0


class RewardFamily(Family):
    """`rewards/`: `window` is the number of logged steps of the moving average and of the trend."""

    window: PositiveInt = 100


class GroupFamily(Family):
    """`groups/`: `pass_at` are the k of pass@k."""

    pass_at: tuple[PositiveInt, ...] = (1, 4)


class PolicyFamily(SampledFamily):
    """`policy/`: the clip range of the ratio is [1 - clip_low, 1 + clip_high]."""

    clip_low: PositiveFloat = 0.2
    clip_high: PositiveFloat = 0.2


class DriftFamily(Family):
    """`policy/kl_init_*` on texts that stay the same, where the host can run the policy: TRL without a reference model.

    The first `texts` of the evaluation data, each cut off after `max_tokens`.
    """

    every: PositiveInt = 50
    texts: PositiveInt = 8
    max_tokens: int = Field(default=128, ge=2)


class FormatFamily(Family):
    """`format/`: the tags that a completion must have, in this order.

    Of a completion longer than `max_bytes` only the first and the last half of so many bytes are looked at.
    """

    tags: tuple[Annotated[str, Field(pattern=r"^[A-Za-z][\w-]*$")], ...] = Field(
        default=("reasoning", "answer"), min_length=1, max_length=15
    )
    max_bytes: int = Field(default=65_536, ge=16)


class TextFamily(SampledFamily):
    """`completions/distinct_1` and the like: how much completions repeat; of the sampled prompts, all completions."""

    every: PositiveInt = 50
    sampling_ratio: Share = 0.25


class TaskFamily(SampledFamily):
    """`task/`: whether completions solve the task, by their text; of the sampled prompts, all completions.

    The judging of one step ends after `deadline_s`; what is not judged by then is left out.
    """

    every: PositiveInt = 50
    sampling_ratio: Share = 0.25
    deadline_s: Seconds = 10.0


class ComputeFamily(Family):
    """`compute/`: what the model's size and the devices' speed are needed for.

    `parameters` is the number of parameters of the policy, and each generated token is trained on `passes` times, which
    takes `steps` steps; `throughput/train_tokens_per_s` goes by these two as well. `peak_flops` is the peak of one
    device in FLOP/s, by default that of a device we know; `devices` how many of them, by default those that are there.
    """

    parameters: PositiveInt | None = None
    passes: PositiveInt = 1
    steps: PositiveInt = 1
    peak_flops: PositiveFloat | None = None
    devices: PositiveInt | None = None

    @property
    def passes_a_step(self) -> float:
        """How often one step trains on each generated token, in the mean."""
        return self.passes / self.steps


class CustomFamily(Family):
    """`custom/`: metric functions of the user's, as `module:function`; each takes a rollout."""

    functions: tuple[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")], ...] = ()


class Success(Section):
    """A completion succeeds when this reward is above the threshold; without a reward nothing is a success."""

    reward: str | None = "correct"
    threshold: float = 0.5


class Metrics(Section):
    """The metric families; one that is off is not computed at all.

    `histograms` are those of the families, at steps where both are due.
    """

    rewards: RewardFamily = RewardFamily()
    groups: GroupFamily = GroupFamily()
    advantages: Family = Family()
    policy: PolicyFamily = PolicyFamily()
    sampler: SampledFamily = SampledFamily()
    drift: DriftFamily = DriftFamily()
    completions: Family = Family()
    format: FormatFamily = FormatFamily()
    text: TextFamily = TextFamily()
    task: TaskFamily = TaskFamily()
    time: Family = Family()
    throughput: Family = Family()
    compute: ComputeFamily = ComputeFamily()
    custom: CustomFamily = CustomFamily()
    histograms: Family = Family(every=10)
    memory: Family = Family(every=10)
    observer: Family = Family(every=10)
    success: Success = Success()

    def due(self, step: int, since: int | None = None) -> frozenset[str]:
        """The families that are switched on and due at `step`, or were after the step `since`."""
        always, periods = self._schedule
        return always.union(name for name, every in periods if has_turn(every, step, since))

    @cached_property
    def _schedule(self) -> tuple[frozenset[str], tuple[tuple[str, int], ...]]:
        """The families of every step, and the others with their periods: asked for on the training thread."""
        families = {name: getattr(self, name) for name in type(self).model_fields if name != "success"}
        periods = {name: family.every for name, family in families.items() if family.enabled}
        always = frozenset(name for name, every in periods.items() if every == 1)
        return always, tuple((name, every) for name, every in periods.items() if every > 1)
