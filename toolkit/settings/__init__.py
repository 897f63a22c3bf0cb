"""The kinds of section that a configuration is made of.

Every model is frozen, and so hashable: the metric settings are the static argument of the one jitted computation.
"""

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

Seconds: TypeAlias = Annotated[float, Field(gt=0.0, le=86_400.0)]
Share: TypeAlias = Annotated[float, Field(gt=0.0, le=1.0)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Switch(Section):
    """A part that can be switched: `name: false` is short for `name: {enabled: false}`."""

    enabled: bool = True

    @model_validator(mode="before")
    @classmethod
    def _from_bool(cls, value: object) -> object:
        return {"enabled": value} if isinstance(value, bool) else value


class Scheduled(Switch):
    """A part that has its turn at step 0 and at every multiple of `every` steps.

    What needs completions, where a step reuses those of an earlier one, has it at the next step that has new ones.
    """

    every: PositiveInt

    def due(self, step: int, since: int | None = None) -> bool:
        """Whether it is switched on and has its turn at `step`, or has had one after `since`."""
        return self.enabled and has_turn(self.every, step, since)


def has_turn(every: int, step: int, since: int | None = None) -> bool:
    """Whether `step` is a multiple of `every`, or one lies between it and the step `since`, which had its turn."""
    if since is None or since >= step:  # a training may begin again at a lower step
        return step % every == 0
    return step // every > since // every
