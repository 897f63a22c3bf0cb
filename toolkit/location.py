"""Where something was saved: a path here, or the URL of a bucket."""

from __future__ import annotations

import re
from pathlib import Path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # not the drive of a Windows path


def is_url(text: str) -> bool:
    """Whether it is a URL, such as `gs://bucket/run`."""
    return _URL.match(text) is not None


def located(path: str | Path) -> Path | str:
    """The same for whoever looks from another directory: a path is made absolute, and a URL stays the text it is."""
    return str(path) if is_url(str(path)) else Path(path).absolute()
