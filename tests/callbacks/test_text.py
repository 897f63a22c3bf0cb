"""Metrics from text: what a rollout's completions give, of which prompts, and what trouble costs."""

import logging
import os
import signal
import threading
import zlib
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from toolkit.callbacks.text import TextMetrics, group_of_each, sampled_prompts
from toolkit.complaints import Complaints
from toolkit.errors import ToolkitError
from toolkit.rollout import Rollout
from toolkit.settings.metrics import FormatFamily, Metrics, TaskFamily, TextFamily

SETTINGS = Metrics(text=TextFamily(sampling_ratio=0.5), task=TaskFamily(sampling_ratio=1, deadline_s=60))
TEXT, TASK = frozenset({"text"}), frozenset({"task"})
WORDS = ["a b", "a b", "c d", "c e"]
SOLVED = Rollout(
    completions=["<reasoning>3 + 4 = 7</reasoning><answer>7</answer>", "so 5 + 3 = 9\n#### 9", "the answer is x"],
    prompts=["3 and 4?", "3 and 4?", "3 and 5?"],
    references=["3 + 4 = 7\n#### 7", "3 + 4 = 7\n#### 7", "8"],
)


@pytest.fixture(scope="module")
def metrics() -> Iterator[TextMetrics]:
    """One child process for all tests: half of the prompts for `text`, all for `task`."""
    metrics = TextMetrics(SETTINGS)
    yield metrics
    metrics.close()


@pytest.fixture(scope="module")
def whole() -> Iterator[TextMetrics]:
    """One that looks at all prompts."""
    metrics = TextMetrics(Metrics(text=TextFamily(sampling_ratio=1), task=TaskFamily(sampling_ratio=1, deadline_s=60)))
    yield metrics
    metrics.close()


def values(metrics: TextMetrics, rollout: Rollout, families: frozenset[str], step: int = 0) -> dict[str, float]:
    """The values, without any trouble."""
    complaints = Complaints()
    found = metrics.values(rollout, families, step, complaints)
    assert complaints.count == 0
    return found


def process_id(metrics: TextMetrics) -> int:
    """That of the child, which is there."""
    pid = metrics._process.pid
    assert pid is not None
    return pid


@pytest.mark.parametrize(
    ("groups", "distinct_1", "distinct_2", "unique"),
    [
        (Rollout(completions=WORDS, group_size=2), 5 / 8, 3 / 4, 3 / 4),
        (Rollout(completions=WORDS, group_ids=np.array([1, 1, 0, 0])), 5 / 8, 3 / 4, 3 / 4),
        (Rollout(completions=WORDS, prompts=["p", "p", "q", "q"]), 5 / 8, 3 / 4, 3 / 4),
        (Rollout(completions=WORDS, group_ids=np.array([0, 1, 0, 1])), 8 / 8, 4 / 4, 4 / 4),
        (Rollout(completions=WORDS, group_size=2, prompts=["p", "q", "p", "q"]), 5 / 8, 3 / 4, 3 / 4),
        (Rollout(completions=WORDS), 5 / 8, 3 / 4, 3 / 4),
    ],
    ids=["group_size", "group_ids", "prompts", "interleaved", "groups before prompts", "one set"],
)
def test_diversity_is_counted_within_each_prompt(
    whole: TextMetrics, groups: Rollout, distinct_1: float, distinct_2: float, unique: float
) -> None:
    """a b, a b have 2 words of 4 and 1 pair of 2, c d and c e 3 of 4 and 2 of 2; apart by twos nothing repeats."""
    compressed = [len(text) / len(zlib.compress(text.encode())) for text in WORDS]
    assert values(whole, groups, TEXT) == pytest.approx({
        "completions/distinct_1": distinct_1,
        "completions/distinct_2": distinct_2,
        "completions/unique_fraction": unique,
        "completions/repetition_fraction": 0.0,
        "completions/compression_ratio": np.mean(compressed),
    })  # fmt: skip


def test_a_completion_in_a_loop_is_counted(whole: TextMetrics) -> None:
    """One of four that repeats itself a thousand times."""
    found = values(whole, Rollout(completions=[*WORDS[:3], "and so on " * 1000], group_size=4), TEXT)
    assert found["completions/repetition_fraction"] == 0.25


def test_a_completion_without_a_reference_is_not_judged(whole: TextMetrics) -> None:
    """The share of right answers is of the others."""
    rollout = Rollout(completions=SOLVED.completions, references=["7", "7", None])
    assert values(whole, rollout, TASK) == {"task/answer_correct": 0.5}


def test_answers_are_judged_by_their_references(whole: TextMetrics) -> None:
    """By hand: one of three is right, one of two has a solution's steps, and 5 and 9 of 5 + 3 = 9 came from nowhere."""
    assert values(whole, SOLVED, TASK) == pytest.approx(
        {"task/answer_correct": 1 / 3, "task/reasoning_complete": 1 / 2, "task/unsupported_rate": 1 / 3}
    )


def test_what_the_rollout_does_not_have_is_not_judged(whole: TextMetrics) -> None:
    """Without references there is no right answer, without prompts nothing to be supported by, without both nothing."""
    texts = SOLVED.completions
    unanswered = values(whole, Rollout(completions=texts, prompts=SOLVED.prompts), TASK)
    assert unanswered == pytest.approx({"task/unsupported_rate": 1 / 3})
    unasked = values(whole, Rollout(completions=texts, references=SOLVED.references), TASK)
    assert unasked == pytest.approx({"task/answer_correct": 1 / 3, "task/reasoning_complete": 1 / 2})
    assert values(whole, Rollout(completions=texts), TASK) == {}


def test_both_families_stand_beside_each_other(whole: TextMetrics) -> None:
    """Each with its own keys, and none where none is asked for."""
    both = values(whole, SOLVED, TEXT | TASK)
    assert both == values(whole, SOLVED, TEXT) | values(whole, SOLVED, TASK)
    assert values(whole, SOLVED, frozenset()) == {}


def test_the_tags_are_those_of_the_configuration() -> None:
    """An answer between tags of another name is found by that name."""
    settings = Metrics(
        format=FormatFamily(tags=("think", "solution")), task=TaskFamily(sampling_ratio=1, deadline_s=60)
    )
    metrics = TextMetrics(settings)
    rollout = Rollout(completions=["<think>1</think><solution>7</solution> or 8"], references=["7"])
    assert values(metrics, rollout, TASK) == {"task/answer_correct": 1.0}
    metrics.close()


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.5, 1.0])
def test_a_sample_is_of_whole_prompts_and_the_steps_own(ratio: float) -> None:
    """Of 12 groups of 4, the rounded up share with all of their rows, in order: the same at the same step."""
    rollout = Rollout(completions=["x"] * 48, group_size=4)
    drawn = [sampled_prompts(rollout, ratio, step) for step in range(30)]
    assert drawn == [sampled_prompts(rollout, ratio, step) for step in range(30)]
    for rows in drawn:
        groups, sizes = np.unique(np.array(rows) // 4, return_counts=True)
        assert len(groups) == np.ceil(ratio * 12)
        assert set(sizes) == {4}
        assert rows == sorted(rows)
    assert len(set(map(tuple, drawn))) > 1 or ratio == 1
    assert {row for rows in drawn for row in rows} == set(range(48))


def test_a_prompt_is_its_group_or_its_text_or_a_row() -> None:
    """Interleaved groups, and equal prompts without groups, are drawn whole; without both each row is one."""
    texts = ["x"] * 6
    halves = ([0, 2, 4], [1, 3, 5])
    ids = Rollout(completions=texts, group_ids=np.array([0, 1, 0, 1, 0, 1], np.float32))
    assert all(sampled_prompts(ids, 0.5, step) in halves for step in range(5))
    prompts = Rollout(completions=texts, prompts=["p", "q", "p", "q", "p", "q"])
    assert all(sampled_prompts(prompts, 0.5, step) in halves for step in range(5))
    assert all(len(sampled_prompts(Rollout(completions=texts), 0.5, step)) == 3 for step in range(5))
    assert sampled_prompts(Rollout(), 1.0, 0) == []


def test_groups_are_numbered_in_rows_or_as_given() -> None:
    """A size cuts consecutive rows, ids are taken as they are, and without either there is none."""
    texts = ["x"] * 4
    size, ids = (
        Rollout(completions=texts, group_size=2),
        Rollout(completions=texts, group_ids=np.array([3.0, 0.0, 3.0, 0.0])),
    )
    found = [group_of_each(size), group_of_each(ids)]
    assert [None if groups is None else groups.tolist() for groups in found] == [[0, 0, 1, 1], [3, 0, 3, 0]]
    assert group_of_each(Rollout(completions=texts)) is None


def test_only_the_sampled_prompts_are_looked_at(metrics: TextMetrics) -> None:
    """Of two prompts, one with equal and one with different completions, each step sees one, and always the same."""
    rollout = Rollout(completions=["a", "a", "b", "c"], group_size=2)
    found = [values(metrics, rollout, TEXT, step)["completions/unique_fraction"] for step in range(8)]
    assert set(found) == {0.5, 1.0}
    assert found == [values(metrics, rollout, TEXT, step)["completions/unique_fraction"] for step in range(8)]


def test_what_was_not_judged_is_said_with_its_family(caplog: pytest.LogCaptureFixture) -> None:
    """When the time is over before the first answer there are no values, and one complaint says why."""
    metrics, complaints = TextMetrics(Metrics(task=TaskFamily(sampling_ratio=1, deadline_s=1e-6))), Complaints()
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        assert metrics.values(SOLVED, TASK, 0, complaints) == {}
        assert metrics.values(SOLVED, TASK, 1, complaints) == {}
    metrics.close()
    assert complaints.count == 2
    (said,) = caplog.messages
    assert "left out task/" in said
    assert "not judged" in said


def test_a_child_that_was_killed_costs_no_later_step(whole: TextMetrics) -> None:
    """Between two steps, and in the middle of one: the values are there again, from a child of another id."""
    expected = values(whole, SOLVED, TASK)
    first = process_id(whole)
    os.kill(first, signal.SIGKILL)
    assert values(whole, SOLVED, TASK) == expected
    second = process_id(whole)
    assert second != first
    os.kill(second, signal.SIGSTOP)
    threading.Timer(0.2, os.kill, (second, signal.SIGKILL)).start()
    whole.values(SOLVED, TASK, 0, Complaints())
    assert values(whole, SOLVED, TASK) == expected


def test_close_ends_the_child() -> None:
    """There is none before the first values and none afterwards, and more calls do nothing."""
    metrics = TextMetrics(SETTINGS)
    assert metrics._process.pid is None
    values(metrics, SOLVED, TASK)
    child = psutil.Process(process_id(metrics))
    metrics.close()
    metrics.close()
    assert not child.is_running()
    with pytest.raises(ToolkitError, match="was closed"):
        metrics.values(SOLVED, TASK, 1, Complaints())
