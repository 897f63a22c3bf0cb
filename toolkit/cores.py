"""How many cores torch takes for what a thread of ours computes beside the training."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

_this_thread = threading.local()


def use_one_core() -> None:
    """Have torch compute on one core what the calling thread asks of it, from now on; all other threads keep theirs.

    OpenMP gives each thread that computes a team of its own, of as many workers as torch is set to. As soon as all
    teams together have more workers than there are cores, those of GNU's OpenMP no longer wait awake for their next
    operation: on two cores the small operations of a training took twice as long, for as long as the other thread was
    there, also when it did nothing.

    Does nothing before torch is loaded, so call it whenever there is work. As any call of `torch.set_num_threads` it
    also ends MKL's dynamic mode, in which MKL may use fewer threads than it is given.
    """
    torch: Any = sys.modules.get("torch")
    if getattr(_this_thread, "uses_one", False) or not hasattr(torch, "set_num_threads"):
        return
    _this_thread.uses_one = True
    # What torch is told is for this thread and for those that are yet to begin: another one gives those theirs back.
    with suppress(RuntimeError), ThreadPoolExecutor(1) as other:  # without a thread for that all stays as it is
        usual = other.submit(torch.get_num_threads).result()
        torch.get_num_threads()  # torch gives a thread its number when it is first asked, and would do so after us
        torch.set_num_threads(1)
        other.submit(torch.set_num_threads, usual).result()
