"""Pictures and moving pictures as bytes of their file formats."""

from __future__ import annotations

import io

import numpy as np

from toolkit.record import Image, Video


def png(image: Image) -> bytes:
    """The picture as a PNG file: bytes stay what they are, floats from 0 to 1 are rounded to the nearest of 256."""
    from PIL import Image as Picture  # 40 ms, which only a run that logs pictures spends

    file = io.BytesIO()
    Picture.fromarray(_levels(image.pixels)).save(file, "PNG")
    return file.getvalue()


def gif(video: Video) -> bytes:
    """The video as a GIF file that repeats for ever: 256 colours a frame, times in hundredths of a second."""
    from PIL import Image as Picture

    file = io.BytesIO()
    first, *rest = (Picture.fromarray(_levels(frame)) for frame in video.frames)
    first.save(file, "GIF", save_all=True, append_images=rest, duration=round(1000 / video.fps), loop=0)
    return file.getvalue()


def _levels(pixels: np.ndarray) -> np.ndarray:
    """Bytes [height, width] or, with colours, [height, width, channels]."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.nan_to_num(pixels).clip(0.0, 1.0) * 255.0).astype(np.uint8)
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
