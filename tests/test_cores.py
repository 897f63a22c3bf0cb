"""What torch takes of the machine for our threads."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch

from toolkit.cores import use_one_core
from toolkit.logger import Logger
from toolkit.sinks.memory import MemorySink
from toolkit.validation.background import BackgroundValidator


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(usual)


def of_thread() -> int:
    """How many threads torch has for this one of Python, after it computed something."""
    torch.ones(100_000, dtype=torch.int64).float()
    return int(torch.get_num_threads())


def of_new_thread(before: Callable[[], object] = lambda: None) -> int:
    """How many threads torch has for a new one of Python, which does something before it computes."""
    found = []

    def compute() -> None:
        before()
        found.append(of_thread())

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    return found[0]


def test_one_thread_uses_one_core_and_all_others_what_they_did() -> None:
    """Those that are there, and those that begin later."""
    assert of_new_thread(use_one_core) == 1
    assert torch.get_num_threads() == 3
    assert of_new_thread() == 3


def test_without_torch_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it is being loaded; a thread that asked too early may ask again."""

    def early_and_again() -> None:
        for unready in (None, ModuleType("torch")):
            with monkeypatch.context() as patched:
                patched.setitem(sys.modules, "torch", unready)
                use_one_core()
        assert of_thread() == 3
        use_one_core()

    assert of_new_thread(early_and_again) == 1


def test_where_no_other_thread_can_begin_all_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, what torch is told would stay for all threads to come."""

    def refused(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    def where_none_begins() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            use_one_core()

    assert of_new_thread(where_none_begins) == 3
    assert of_new_thread() == 3


def test_later_threads_keep_what_torch_is_set_to_now() -> None:
    """Not what it was when this thread first computed."""

    def computed_before() -> None:
        assert of_thread() == 3
        of_new_thread(lambda: torch.set_num_threads(5))
        use_one_core()

    assert of_new_thread(computed_before) == 1
    assert of_new_thread() == 5


def test_the_worker_computes_rows_on_one_core() -> None:
    """What a row is made of may be tensors, and the training keeps its cores."""
    sink = MemorySink()
    with Logger([sink]) as logger:
        logger.log(0, lambda: {"threads": float(of_thread())})
    assert sink.series("threads") == [(0, 1.0)]
    assert of_new_thread() == 3


def test_what_validates_beside_the_training_uses_one_core() -> None:
    """Whatever the policy is."""
    threads = []

    class Policy:
        def generate(self, prompts: Sequence[str]) -> list[str]:
            return []

        def snapshot(self) -> "Policy":
            return self

    def validate(policy: Any, step: int) -> list[Any]:
        threads.append(of_thread())
        return []

    validator = BackgroundValidator(validate)
    assert validator.submit(0, Policy())
    validator.close()
    assert threads == [1]
    assert of_new_thread() == 3
