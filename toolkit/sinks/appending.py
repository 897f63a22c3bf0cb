"""Files that only grow, by whole bursts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def append(parts: Mapping[Path, bytes]) -> None:
    """Append to each file its part, with one system call and no buffer of ours: to all files or, on an error, to none.

    A file that is not there is made. Only one process may append to a file, any number may read it. Raises OSError
    when the disk does not take everything, or the directory is gone.
    """
    sizes: dict[Path, int] = {}
    try:
        for path, data in parts.items():
            with path.open("ab", buffering=0) as file:
                sizes[path] = os.fstat(file.fileno()).st_size
                _write(file.fileno(), data)
    except OSError:
        for path, size in sizes.items():
            os.truncate(path, size)
        raise


def _write(file: int, data: bytes) -> None:
    # A disk that fills up takes a part first and says why only at the next write.
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, data[written:])
