"""The user's scorers, in a child process that they may wreck."""

import math
import os
import threading

import psutil
import pytest

from toolkit.errors import ConfigError
from toolkit.validation.catalogue import close, parse
from toolkit.validation.scorers import Scores, scored
from toolkit.validation.user import user_scorer

MODULE = "tests.validation.functions"
COMPLETIONS = ["a", "x", "b"]


def scores(function: str, timeout_s: float = 60.0) -> Scores:
    """Of three completions, of which the second is the one at which scorers go wrong."""
    scorers = {"score": user_scorer(f"{MODULE}:{function}", timeout_s)}
    try:
        return scored(scorers["score"], COMPLETIONS, COMPLETIONS, ["a", "b", "b"])
    finally:
        close(scorers)


def children() -> set[int]:
    """The processes under this one that run, among them what tests of others left, as W&B's service."""
    return {child.pid for child in psutil.Process().children(recursive=True) if child.status() != "zombie"}


@pytest.mark.parametrize(
    ("function", "expected"),
    [("equal", [1, 0, 1]), ("nothing", [math.nan] * 3), ("devices", [1, 1, 1]), ("entails", [0, 0, 0])],
)
def test_a_function_gets_what_its_parameters_ask_for(function: str, expected: list[float]) -> None:
    """Some of prompt, completion and reference; premise and hypothesis; no accelerator; None is no failure."""
    found = scores(function)
    assert found.values == pytest.approx(expected, nan_ok=True)
    assert not found.failures


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("raises", "ZeroDivisionError: division by zero"),
        ("words", "gave 'many', which is no number"),
        ("infinite", "gave an infinite score"),
        ("crashes", "exit code -11"),
        ("leaves", "exit code 3"),
        ("batch", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_scorer_that_goes_wrong_costs_only_its_sample(function: str, reason: str) -> None:
    """The others are scored, and the failure has its reason; a batch is taken apart for it."""
    found = scores(function)
    assert found.values == pytest.approx([1, math.nan, 1], nan_ok=True)
    assert list(found.failures) == [1]
    assert reason in found.failures[1]


@pytest.mark.parametrize("function", ["loops", "loops_in_c", "sleeps", "forks_and_sleeps"])
def test_a_scorer_that_hangs_is_ended_also_on_a_thread(function: str) -> None:
    """Pure Python that catches all, a regular expression, a sleep and a fork of it: nothing is left behind."""
    before = children()
    found: list[Scores] = []
    thread = threading.Thread(target=lambda: found.append(scores(function, timeout_s=1.0)))
    thread.start()
    thread.join(60)
    assert found[0].values == pytest.approx([1, math.nan, 1], nan_ok=True)
    assert "not judged in time" in found[0].failures[1]
    assert children() <= before


def test_statements_that_the_premise_does_not_hold_are_counted() -> None:
    """One of two sentences of the reasoning stands in the prompt; what was stated before is a premise too."""
    scorer = user_scorer(f"{MODULE}:entails")
    completion = "<reasoning>It is red. It is big. It is big.</reasoning><answer>big</answer>"
    found = scored(scorer, ["It is red."], [completion], [""])
    close({"score": scorer})
    assert found.values == pytest.approx([1 / 3])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.module:score", "No module named 'no'"),
        (f"{MODULE}:none", "has no attribute 'none'"),
        (f"{MODULE}:not_a_function", "not_a_function is a int, not a function"),
        (f"{MODULE}:wrong_parameters", "takes text: expected some of prompt, completion, reference"),
    ],
)
def test_a_function_that_cannot_be_used_is_told_at_once(name: str, message: str) -> None:
    """The error names it and says why, before any validation begins, and leaves no process."""
    before = children()
    with pytest.raises(ConfigError) as raised:
        parse(["length", name])
    assert message in str(raised.value)
    assert name in str(raised.value)
    assert children() <= before


@pytest.fixture
def elsewhere(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with open("ofmine.py", "w") as file:
        file.write("def score(completion): return len(completion)\n")


@pytest.mark.usefixtures("elsewhere")
def test_a_module_of_the_working_directory_is_found() -> None:
    """As it is not on the path of an installed command."""
    scorers = parse("ofmine:score")
    assert scored(scorers["score"], ["?"], ["abc"], ["?"]).values == [3.0]
    close(scorers)
