"""Pictures and films of anything: what the user's own functions draw of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from toolkit.callbacks import StepEvent
from toolkit.complaints import Complaints
from toolkit.errors import ToolkitError
from toolkit.hold import hold_all, joined
from toolkit.record import Image, Video
from toolkit.rollout import Rollout
from toolkit.settings.callbacks import Media
from toolkit.values import unchanging


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to draw of a step: its rollout and its batch, as they were when it ended, and its values."""

    step: int
    rollout: Rollout | None = None
    batch: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


Renderer: TypeAlias = Callable[[Scene], Any]
"""(scene) -> an `Image`, a `Video`, pixels [height, width, ...], frames [time, height, width, channels], or None.

Called on the worker thread."""


class MediaCallback:
    """Logs to the `samples` stream what each renderer draws.

    | key | what |
    |---|---|
    | `media/NAME` | the picture or film of the renderer of this name |
    """

    def __init__(self, settings: Media, renderers: Mapping[str, Renderer]) -> None:
        self._settings = settings
        self._renderers = dict(renderers)
        self._last_rollout: int | None = None

    def on_step(self, event: StepEvent) -> None:
        """Take hold of the step when it is due; the renderers are called by the worker.

        Where rollouts serve several steps, it waits for the next one.
        """
        source = event.rollout if event.rollout and not event.rollout.measured else None
        if source:
            self._last_rollout = event.step
        if not self._renderers or self._is_reused(event.step) or not self._settings.due(event.step, event.since):
            return
        rollouts_of = source.later() if source else None
        batch_of, values = hold_all(dict(event.batch or {})), unchanging(event.values)
        step, complaints = event.step, event.logger.complaints

        def drawn() -> dict[str, Image | Video]:
            rollout = joined(rollouts_of()) if rollouts_of else None
            return self._drawn(Scene(step, rollout, batch_of(), values), complaints)

        event.logger.log(event.step, drawn, stream="samples")

    def _is_reused(self, step: int) -> bool:
        """Whether the step has no rollout, and the last one was less than a turn ago."""
        return self._last_rollout is not None and 0 < step - self._last_rollout < self._settings.every

    def _drawn(self, scene: Scene, complaints: Complaints) -> dict[str, Image | Video]:
        drawn = {}
        for name, render in self._renderers.items():
            try:
                given = render(scene)
                if given is not None:
                    drawn[f"media/{name}"] = _picture(given)
            except Exception as error:  # it is the user's code, and must not cost the other pictures
                named = ToolkitError(f"{name} raised {type(error).__name__}: {error}")
                complaints.add("a renderer", named)
        return drawn


def _picture(given: Any) -> Image | Video:
    """What was drawn, as a value; raises `ToolkitError` for what is neither a picture nor a film."""
    if isinstance(given, (Image, Video)):
        return given
    pixels = np.asarray(given)
    if pixels.ndim not in (2, 3, 4):
        raise ToolkitError(
            f"expected pixels [height, width, ...] or frames [time, height, width, ...], got {pixels.shape}"
        )
    return Video(pixels) if pixels.ndim == 4 else Image(pixels)
