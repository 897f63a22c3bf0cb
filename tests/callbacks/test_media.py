"""Pictures and films that the user's own functions draw."""

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.callbacks.media import MediaCallback, Scene
from toolkit.callbacks.observer import Observer
from toolkit.logger import Logger
from toolkit.measurement import Measurement
from toolkit.record import Image, Video
from toolkit.rollout import Rollout
from toolkit.settings.callbacks import Media
from toolkit.sinks.memory import MemorySink


def drawn(steps: range, settings: Media, **renderers: Any) -> MemorySink:
    """What is drawn of steps whose arrays are donated at once."""
    sink = MemorySink()
    donating = jax.jit(lambda array: array + 1, donate_argnums=0)
    reward = jnp.zeros((4,), jnp.float32)
    with Observer(Logger([sink]), [MediaCallback(settings, renderers)]) as observer:
        for step in steps:
            rollout = Rollout(rewards={"a": reward}, completions=["x"] * 4)
            observer.step(step, rollout, values={"loss": step / 2}, batch={"seen": reward})
            reward = donating(reward)
    return sink


def rewards(scene: Scene) -> np.ndarray:
    """One column a completion, as bright as its reward."""
    assert scene.rollout is not None
    assert np.array_equal(np.asarray(scene.batch["seen"]), np.asarray(scene.rollout.rewards["a"]))
    assert scene.values == {"loss": scene.step / 2}
    return np.tile(np.asarray(scene.rollout.rewards["a"], np.float32) / 10, (2, 1))


def test_a_renderer_sees_the_step_as_it_was() -> None:
    """Its arrays, its values and its batch, whatever the loop did with them since; on schedule."""
    sink = drawn(range(5), Media(every=2), rewards=rewards)
    pictures = sink.series("media/rewards", "samples")
    assert [step for step, _ in pictures] == [0, 2, 4]
    for step, picture in pictures:
        assert isinstance(picture, Image)
        np.testing.assert_allclose(picture.pixels, np.full((2, 4), step / 10, np.float32))


def test_where_not_every_step_has_a_rollout_it_is_drawn_of_the_next_that_has_one() -> None:
    """A generation that serves two steps is drawn, though no multiple of the schedule has one."""
    sink, seen = MemorySink(), list[Scene]()
    with Observer(Logger([sink]), [MediaCallback(Media(every=4), {"look": seen.append})]) as observer:
        for step in range(1, 10):
            observer.step(step, Rollout(rewards={"a": [0.0]}) if step % 2 else None)
        for step in range(10, 20):
            observer.step(step)
    assert [(scene.step, scene.rollout is None) for scene in seen[:2]] == [(5, False), (9, False)]
    assert [scene.step for scene in seen[2:]] == [
        16
    ]  # the last rollout was long ago: what it draws is of something else


def test_pixels_are_a_picture_and_frames_a_film() -> None:
    """What is one already stays as it is, and None is nothing to show."""
    made = Video(np.zeros((2, 3, 3, 3), np.uint8), fps=2.0, caption="mine")
    sink = drawn(
        range(1),
        Media(),
        film=lambda scene: np.zeros((5, 4, 4, 3), np.uint8),
        colour=lambda scene: jnp.zeros((4, 4, 3)),
        made=lambda scene: made,
        nothing=lambda scene: None,
    )
    values = {key: value for record in sink.records for key, value in record.values.items()}
    assert values.keys() == {"media/film", "media/colour", "media/made"}
    assert isinstance(values["media/film"], Video)
    assert isinstance(values["media/colour"], Image)
    kept = values["media/made"]
    assert isinstance(kept, Video)
    assert (kept.fps, kept.caption, kept.frames.shape) == (2.0, "mine", (2, 3, 3, 3))


def test_a_renderer_that_fails_costs_no_other_picture(caplog: pytest.LogCaptureFixture) -> None:
    """Nor one that gives no picture; both are named."""
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        sink = drawn(range(1), Media(), broken=lambda scene: scene.nothing, odd=lambda scene: 5.0, rewards=rewards)
    assert len(sink.series("media/rewards", "samples")) == 1
    assert any("broken raised AttributeError" in line for line in caplog.messages)
    assert any("odd raised ToolkitError: expected pixels" in line for line in caplog.messages)


def test_without_renderers_or_switched_off_nothing_is_logged() -> None:
    """No row, and no array is copied."""
    assert drawn(range(3), Media(every=1)).records == []
    assert drawn(range(3), Media(enabled=False), rewards=rewards).records == []


def test_a_step_that_was_measured_already_has_no_rollout_to_draw() -> None:
    """The renderer is told so by a None."""
    sink = MemorySink()
    seen: list[Scene] = []
    with Observer(Logger([sink]), [MediaCallback(Media(), {"look": seen.append})]) as observer:
        observer.step(0, Measurement(jnp.zeros(0), ()))
        observer.step(100)
    assert [scene.rollout for scene in seen] == [None, None]
