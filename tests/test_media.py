"""Images and videos: what is taken, what is refused and why, and the files that another library reads back."""

import io
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from toolkit.media import checked, gif, png
from toolkit.record import Image, Video


def read(file: bytes) -> np.ndarray:
    """The pixels of a PNG file, as Pillow reads them."""
    return np.asarray(Pillow.open(io.BytesIO(file)))


@pytest.mark.parametrize("channels", [(), (3,), (4,)])
def test_bytes_come_back_equal(channels: tuple[int, ...]) -> None:
    """Grey, RGB and RGBA pixels stand in the file as they are."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, *channels), np.uint8)
    assert np.array_equal(read(png(Image(pixels))), pixels)


def test_one_channel_is_grey() -> None:
    """A last axis of length 1 makes the same picture as none."""
    pixels = np.arange(35, dtype=np.uint8).reshape(5, 7, 1)
    assert np.array_equal(read(png(Image(pixels))), pixels[..., 0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_shades_and_what_is_not_finite_is_an_end_of_the_range(dtype: Any) -> None:
    """From 0 to 1 is from 0 to 255; NaN is black; and no warning is given."""
    pixels = np.array([[0.0, 0.5, 1.0], [np.nan, np.inf, -np.inf]], dtype)
    with warnings.catch_warnings(action="error"):
        assert read(png(Image(pixels))).tolist() == [[0, 128, 255], [0, 255, 0]]


def test_a_video_has_its_frames_its_speed_and_no_end() -> None:
    """The GIF has every frame for as long as `fps` says, and repeats."""
    frames = np.eye(4)[:, :, None, None] * np.ones((4, 4, 6, 3))
    with Pillow.open(io.BytesIO(gif(Video(frames, fps=5)))) as file:
        assert (file.n_frames, file.size, file.info["duration"], file.info["loop"]) == (4, (6, 4), 200, 0)  # type: ignore[attr-defined]  # of GIF files alone
        for number in range(4):
            file.seek(number)
            assert np.asarray(file.convert("L"))[:, 0].tolist() == (np.eye(4)[number] * 255).tolist()


def test_a_video_faster_than_browsers_play_is_slowed_to_their_fastest() -> None:
    """Below 20 ms a frame browsers fall back to 100 ms."""
    frames = np.arange(3, dtype=np.uint8)[:, None, None] * np.full((3, 4, 4), 80, np.uint8)
    with Pillow.open(io.BytesIO(gif(Video(frames, fps=240)))) as file:
        assert file.info["duration"] == 20


def test_what_can_be_shown_is_returned_as_arrays_of_numpy() -> None:
    """Lists and arrays of JAX are taken too, and the caption stays."""
    import jax.numpy as jnp

    image = checked(Image(jnp.ones((2, 3)), "c"))  # type: ignore[arg-type]  # what users give
    assert isinstance(image, Image)
    assert isinstance(image.pixels, np.ndarray)
    assert image.caption == "c"
    video = checked(Video([[[0.0, 1.0]]], 3.0, "v"))  # type: ignore[arg-type]  # what users give
    assert isinstance(video, Video)
    assert (video.frames.shape, video.fps, video.caption) == ((1, 1, 2), 3.0, "v")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (Image(np.zeros((5, 7, 2))), r"an image of shape \(5, 7, 2\): expected \[height, width\], or with 1, 3 or 4"),
        (Image(np.zeros((0, 7))), r"an image of shape \(0, 7\)"),
        (Image(np.zeros((5, 7), int)), "an image of int64: expected uint8, or floats from 0 to 1"),
        (Image(np.full((5, 7), 255.0)), "an image of floats from 255 to 255: expected 0 to 1, or uint8"),
        (Image(np.zeros((5000, 5000, 4), np.uint8)), "an image of 100 MB: expected at most 32 MB; make it smaller"),
        (Video(np.zeros((5, 7))), r"a video of shape \(5, 7\): expected \[time, height, width\]"),
        (Video(np.zeros((2, 5, 7)), fps=0.0), r"a video of 0.0 frames a second: expected a positive number"),
        (Video(np.zeros((2, 5, 7)), fps=float("nan")), "a video of nan frames a second"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_was_expected(value: Image | Video, complaint: str) -> None:
    """The message says what was found and what is taken."""
    with pytest.raises(ValueError, match=complaint):
        checked(value)


def test_a_little_out_of_the_range_is_taken() -> None:
    """Resizing overshoots by a rounding error, which is no reason to lose a picture; NaN is none either."""
    checked(Image(np.array([[-1e-6, 1.0 + 1e-6, np.nan]])))
