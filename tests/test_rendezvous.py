"""The store of torch's group, as processes that agree use it."""

import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from toolkit.rendezvous import TorchStore

distributed: Any = torch.distributed  # its names have no types


def tcp() -> Any:
    return distributed.TCPStore("127.0.0.1", 0, 1, is_master=True, timeout=timedelta(seconds=30))


@pytest.fixture(params=[tcp, distributed.HashStore])
def store(request: pytest.FixtureRequest) -> TorchStore:
    """A store as torchrun makes it, and one of a single process."""
    make: Callable[[], Any] = request.param
    made = make()
    return TorchStore(SimpleNamespace(distributed_c10d=SimpleNamespace(_get_default_store=lambda: made)))


def test_the_first_to_claim_a_place_has_it(store: TorchStore) -> None:
    """Both are told what stands there."""
    assert store.find("place") is None
    assert store.claim("place", "save") == "save"
    assert store.claim("place", "nothing") == "save"
    assert store.find("place") == "save"


def test_what_is_there_is_not_waited_for(store: TorchStore) -> None:
    """And what was removed is no longer there."""
    store.put("place", "save")
    assert store.awaited("place", 30.0) == "save"
    store.forget("place")
    assert store.find("place") is None


@pytest.mark.parametrize("seconds", [0.2, 1e-3, 1e-5, 0.0])
def test_a_wait_has_an_end(seconds: float, store: TorchStore) -> None:
    """However short it is: torch takes no time at all for endless."""
    began = time.monotonic()
    assert store.awaited("place", seconds) is None
    assert time.monotonic() - began < 5.0
