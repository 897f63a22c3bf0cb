"""The presets for batches and for long runs: what is logged with them, and when."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

import toolkit
from toolkit.config import PRESETS, load
from toolkit.record import Record, Table
from toolkit.rollout import Rollout
from toolkit.settings.metrics import Metrics
from toolkit.sinks import jsonl

BATCH = {
    "episode_returns": np.array([1.0, 2.0, 3.0, 6.0, 4.0]),
    "similarity": np.array([0.5, 1.0, 1.0, 0.0, 1.0]),
    "policy_loss": 0.25,
    "grad_norm": 2.0,
    "entropy": 0.5,
}
ROLLOUT = Rollout(
    rewards={"correct": [1.0, 0.0]},
    advantages=np.array([1.0, -1.0]),
    mask=np.ones((2, 3), bool),
    logp=np.full((2, 3), -0.5),
    sampler_logp=np.full((2, 3), -0.5),
    completions=["a", "b"],
    group_size=2,
)
Logged = dict[str, list[tuple[int, object]]]
"""(step, value) by key."""


def logged(log_dir: Path, overrides: Sequence[str] = (), rollout: Rollout | None = None, last: int = 50) -> Logged:
    """What a run of the preset `batched` logs at steps 0, 1, 5, 10, 50."""
    quiet = ["sinks.console=false", "sinks.tensorboard=false", "queue.burst_s=0.01"]
    with toolkit.observe("batched", log_dir, overrides=[*quiet, *overrides]) as observer:
        for step in (0, 1, 5, 10, 50):
            if step <= last:
                observer.step(step, rollout, batch=BATCH)
    series: Logged = {}
    for record in records(log_dir):
        for key, value in record.values.items():
            series.setdefault(key, []).append((record.step, value))
    return series


def records(log_dir: Path) -> list[Record]:
    """The rows of the journal and of the samples."""
    files = (log_dir / "metrics.jsonl", log_dir / "samples" / "completions.jsonl")
    return [record for path in files if path.exists() for record in jsonl.read(path)]


def of_batch(series: Logged) -> set[str]:
    """The names of what is logged of a batch."""
    return {key.split("/")[1] for key in series if key.startswith("batch/")}


def steps(series: Logged, key: str) -> list[int]:
    """The steps at which a key is logged."""
    return [step for step, _ in series.get(key, [])]


@pytest.fixture(scope="module")
def as_it_is(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """What `batched` logs without a change."""
    return logged(tmp_path_factory.mktemp("batched"), rollout=ROLLOUT)


def test_batched_logs_every_kind_of_name_on_its_schedule(as_it_is: Logged) -> None:
    """Every ten steps all of the batch, with the success of `similarity`, and every fifty three of its rows."""
    assert of_batch(as_it_is) == BATCH.keys()
    assert steps(as_it_is, "batch/episode_returns/mean") == steps(as_it_is, "batch/policy_loss") == [0, 10, 50]
    assert as_it_is["batch/similarity/success_rate"][0][1] == pytest.approx(0.6)
    assert "batch/episode_returns/success_rate" not in as_it_is
    tables = [table for _, table in as_it_is["samples/batch"]]
    assert steps(as_it_is, "samples/batch") == [0, 50]
    assert [len(table.rows) for table in tables if isinstance(table, Table)] == [3, 3]


def test_batched_measures_nothing_that_needs_completions(as_it_is: Logged) -> None:
    """Even where a rollout is there: of the switched off families there is no key."""
    off = {
        name for name in Metrics.model_fields if not getattr(getattr(load("batched").metrics, name), "enabled", True)
    }
    assert off >= {"rewards", "groups", "advantages", "policy", "sampler", "completions", "format", "text", "task"}
    assert not {key.partition("/")[0] for key in as_it_is} & off
    assert "samples/completions" not in as_it_is
    assert "time/step_s" in as_it_is


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("rewards", "episode_returns"),
        ("similarity", "similarity"),
        ("losses", "policy_loss"),
        ("gradient_norms", "grad_norm"),
        ("other", "entropy"),
    ],
)
def test_each_kind_of_batched_has_its_switch(switch: str, gone: str, tmp_path: Path) -> None:
    """Switched off, its names are gone and all others are there."""
    assert of_batch(logged(tmp_path, [f"batch.{switch}=false"], last=0)) == BATCH.keys() - {gone}


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("batch.every=5", "batch/policy_loss", [0, 5, 10, 50]),
        ("batch.success={episode_returns: 3.0}", "batch/episode_returns/success_rate", [0, 10, 50]),
        ("batch.samples.every=10", "samples/batch", [0, 10, 50]),
        ("batch.samples=false", "samples/batch", []),
        ("batch=false", "batch/policy_loss", []),
        ("batch=false", "samples/batch", []),
        ("metrics.rewards=true", "rewards/correct/mean", [0, 1, 5, 10, 50]),
        ("samples=true", "samples/completions", [0, 50]),
    ],
)
def test_each_other_setting_of_batched_changes_what_is_logged(
    override: str, key: str, expected: list[int], as_it_is: Logged, tmp_path: Path
) -> None:
    """The key is logged at the steps that the setting says, and at others, or never, without it."""
    assert steps(logged(tmp_path, [override], ROLLOUT), key) == expected
    assert steps(as_it_is, key) != expected


def test_the_rows_of_a_sample_are_as_many_as_are_asked_for(tmp_path: Path) -> None:
    """Two instead of three; of five rows all where more are asked for."""
    for rows, expected in ((2, 2), (100, 5)):
        ((_, table),) = logged(tmp_path / str(rows), [f"batch.samples.rows={rows}"], last=0)["samples/batch"]
        assert isinstance(table, Table)
        assert len(table.rows) == expected


def test_no_switch_of_batched_is_without_a_test() -> None:
    """The settings that the preset spells out are those that these tests change."""
    written = yaml.safe_load((PRESETS / "batched.yaml").read_text())["batch"]
    kinds = {"rewards", "similarity", "losses", "gradient_norms", "other"}
    assert written.keys() == kinds | {"every", "success", "samples"}
    assert written["samples"].keys() == {"every", "rows"}


def test_sparse_is_due_every_50_steps_and_with_all_of_it_every_250() -> None:
    """Nothing between; at 50, 100, 150 and 200 what is cheap, and at 250 the rest, a validation and samples too."""
    config = load("sparse")
    expensive = {"policy", "sampler", "drift", "text", "task", "histograms"}
    every = {name for name in Metrics.model_fields if name != "success"}
    for step in range(1, 501):
        expected = every if step % 250 == 0 else every - expensive if step % 50 == 0 else set()
        assert config.metrics.due(step) == expected, step
        assert config.validation.due(step) == config.samples.due(step) == (step % 250 == 0)


def test_sparse_takes_a_tenth_of_the_completions_for_what_is_expensive() -> None:
    """Every family that can look at a share does."""
    families = [getattr(load("sparse").metrics, name) for name in Metrics.model_fields]
    ratios = [family.sampling_ratio for family in families if hasattr(family, "sampling_ratio")]
    assert ratios == [0.1] * 4
