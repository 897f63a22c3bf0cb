"""How many cores torch takes for what a thread of ours computes beside the training."""

from __future__ import annotations

import sys
import threading
from typing import Any

_this_thread = threading.local()


def use_one_core() -> None:
    """Have torch compute on one core what the calling thread asks of it, from now on; all other threads keep theirs.

    OpenMP gives each thread that computes a team of its own, as large as the machine. As soon as all teams together
    have more workers than there are cores, none of them waits awake for its next operation: on two cores the small
    operations of a training took twice as long, for as long as the other thread was there, also when it did nothing.

    Does nothing before torch is loaded, so call it whenever there is work.
    """
    torch: Any = sys.modules.get("torch")
    if getattr(_this_thread, "uses_one", False) or not hasattr(torch, "set_num_threads"):
        return
    _this_thread.uses_one = True
    usual = torch.get_num_threads()  # torch gives a thread its number when it first asks, and later ours would be lost
    torch.set_num_threads(1)
    # That was also set for the threads that are yet to begin; one that ends at once gives them theirs back.
    others = threading.Thread(target=torch.set_num_threads, args=(usual,))
    others.start()
    others.join()
