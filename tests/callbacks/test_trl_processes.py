"""TRL in two processes under `torchrun`: the first logs the metrics of both."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.callbacks import trl_of_two
from tests.callbacks.tiny_trl import journal
from toolkit.measure import measure
from toolkit.record import Histogram
from toolkit.rollout import Rollout

ROOT = Path(__file__).parents[2]


class Training:
    """What both processes saw, what TRL logged, and what our process 0 logged."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        ended = subprocess.run(
            [*command, "-m", trl_of_two.__name__, str(directory)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        seen = [pickle.loads((directory / f"seen{process}").read_bytes()) for process in (0, 1)]
        self.steps = list(zip(*(steps for steps, _ in seen), strict=True))
        self.theirs: dict[str, dict[int, float]] = seen[0][1]
        self.rows = journal(directory / "run")
        self.said = ended.stderr
        self.checkpoints = sorted(path.name for path in (directory / "host").glob("checkpoint-*"))


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Three steps in two processes."""
    return Training(tmp_path_factory.mktemp("two"))


def together(rollouts: list[Rollout], names: list[str]) -> dict[str, Any]:
    """Arrays of several processes below each other, padded to the longest."""
    parts = {name: [np.asarray(getattr(rollout, name)) for rollout in rollouts] for name in names}
    time = max(array.shape[1] for arrays in parts.values() for array in arrays if array.ndim == 2)
    return {
        name: np.concatenate(
            [np.pad(array, [(0, 0), (0, time - array.shape[1])]) if array.ndim == 2 else array for array in arrays]
        )
        for name, arrays in parts.items()
    }


def compared(found: dict[str, Any], rollout: Rollout, families: frozenset[str]) -> set[str]:
    """The keys that one process finds for all rows, each of which the row of two processes has the same value of."""
    alone = measure(rollout, families=families).values()
    # Quantiles of one number a completion are exact only in one process, and those of a token come from a histogram.
    exact = {key for key in alone if not key.endswith(("_p10", "_p50", "_p90", "_p95", "_p99"))}
    for key in exact:
        value, expected = found[key], alone[key]
        if isinstance(expected, Histogram):
            filled = value.counts > 0, expected.counts > 0  # the journal leaves out bins that are empty
            assert value.counts[filled[0]].tolist() == expected.counts[filled[1]].tolist(), key
        else:
            assert value == pytest.approx(expected, rel=1e-5, abs=1e-6), key
    return exact


def test_equals_what_one_process_finds_in_all_rows(training: Training) -> None:
    """Rewards and groups that lie on both, lengths, advantages and token statistics: each row counts once."""
    assert len(training.steps) == 3
    for step, both in enumerate(training.steps, start=1):
        own, whole = [seen["own"] for seen in both], both[0]["whole"]
        assert len(own[0].completions) == len(own[1].completions) == 6
        rollout = Rollout(
            rewards=whole.rewards,
            weights=whole.weights,
            group_size=whole.group_size,
            **together(own, ["mask", "truncated", "advantages"]),
        )
        of_rollout = frozenset({"rewards", "groups", "advantages", "completions", "throughput"})
        update = Rollout(**together([seen["update"] for seen in both], ["mask", "logp", "entropy", "advantages"]))
        assert len(compared(training.rows[step], rollout, of_rollout)) > 30
        assert len(compared(training.rows[step], update, frozenset({"policy"}))) > 5
        assert training.rows[step]["observer/processes"] == 2


@pytest.mark.parametrize("key", trl_of_two.THEIRS)
def test_equals_what_trl_logs_of_both(key: str, training: Training) -> None:
    """TRL gathers over processes for its own log."""
    expected = training.theirs[key]
    assert {step: training.rows[step][key] for step in expected} == pytest.approx(expected, abs=1e-5)
    assert list(expected) == [1, 2, 3]


def test_split_groups_are_noticed(training: Training) -> None:
    """What a process would tell of the texts of half a group is left out, which is said."""
    assert not any("completions/unique_fraction" in row for row in training.rows.values())
    assert "groups lie on several processes" in training.said


def test_both_follow_what_a_callback_of_process_0_asks(training: Training) -> None:
    """After the same step: a checkpoint of the second, and the end after the third of five."""
    assert training.checkpoints == [f"checkpoint-{trl_of_two.SAVED}"]
    assert len(training.steps) == trl_of_two.STOPPED
    assert "left out" not in training.said.replace("left out what is told of the texts of a group", "")


def started(directory: Path, dying: int, process: int, port: int) -> subprocess.Popen[str]:
    """One of two processes, of which `dying` kills itself in the third step."""
    place = {"RANK": str(process), "LOCAL_RANK": str(process), "WORLD_SIZE": "2"}
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", trl_of_two.__name__, str(directory), str(dying)],
        cwd=ROOT,
        env={**os.environ, **place, **group, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("dying", [0, 1])
def test_the_death_of_a_process_ends_the_other_with_its_own_error(dying: int, tmp_path: Path) -> None:
    """That of gloo, without a hang of ours; process 0 has written what it has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    processes = [started(tmp_path, dying, process, port) for process in (0, 1)]
    said = [process.communicate(timeout=280)[1] for process in processes]
    assert processes[dying].returncode == -signal.SIGKILL
    assert processes[1 - dying].returncode == 1
    assert "Connection closed by peer" in said[1 - dying]
    rows = journal(tmp_path / "run")
    assert [step for step, row in rows.items() if row.get("observer/processes") == 2] == [1, 2]
