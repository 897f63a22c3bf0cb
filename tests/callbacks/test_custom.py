"""Metric functions of the user's own: what they see, what is logged of them, and what a broken one costs."""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toolkit
from toolkit.callbacks import Given, Source, StepEvent
from toolkit.callbacks.custom import CustomCallback, MetricFunction
from toolkit.errors import ConfigError
from toolkit.logger import Logger
from toolkit.measure import measure
from toolkit.record import Record
from toolkit.rollout import Rollout
from toolkit.settings.metrics import CustomFamily
from toolkit.sinks import jsonl
from toolkit.sinks.memory import MemorySink

ROLLOUT = Rollout(rewards={"correct": np.array([1.0, 0.0, 1.0])}, completions=["a!", "b", "c!!"])
MODULE = """
def exclamations(rollout):
    return sum(text.count("!") for text in rollout.completions)

def broken(rollout):
    raise KeyError("no such thing")

size = 3
"""


@pytest.fixture
def on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's, which can be imported by its name."""
    (tmp_path / "a_users_metrics.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def logged(
    functions: Mapping[str, MetricFunction],
    given: Sequence[Given | None] = (ROLLOUT,),
    settings: CustomFamily | None = None,
) -> MemorySink:
    """What the callback logs of one rollout a step."""
    sink, callback = MemorySink(), CustomCallback(settings or CustomFamily(), functions)
    with Logger([sink], burst_s=0.01) as logger:
        for step, one in enumerate(given):
            callback.on_step(StepEvent(step, logger, None if one is None else Source(one)))
    return sink


def observed(
    log_dir: Path, overrides: Sequence[str], metrics: Mapping[str, MetricFunction] | None = None
) -> list[Record]:
    """The training rows of a run of two steps with nothing else switched on that takes time."""
    quiet = ["sinks.console=false", "sinks.tensorboard=false", "metrics.task=false", "metrics.text=false"]
    with toolkit.observe("minimal", log_dir, overrides=[*quiet, *overrides], metrics=metrics) as observer:
        for step in range(2):
            observer.step(step, ROLLOUT)
    return [record for record in jsonl.read(log_dir / "metrics.jsonl") if record.stream == "train"]


def series(records: Sequence[Record], key: str) -> list[object]:
    """The values under a key, in order."""
    return [record.values[key] for record in records if key in record.values]


def test_a_number_and_a_mapping_are_logged_under_the_functions_name() -> None:
    """Numbers of Python, NumPy and JAX, and names within names."""
    sink = logged({
        "count": lambda rollout: len(rollout.rewards["correct"]),
        "share": lambda rollout: jnp.mean(jnp.asarray(rollout.rewards["correct"])),
        "lengths": lambda rollout: {"longest": np.int64(3), "of": {"first": 2.0}},
        "nothing": lambda rollout: {},
    })  # fmt: skip
    (record,) = sink.records
    assert record.stream == "train"
    assert record.values == pytest.approx(
        {"custom/count": 3.0, "custom/share": 2 / 3, "custom/lengths/longest": 3.0, "custom/lengths/of/first": 2.0}
    )


@pytest.mark.usefixtures("on_the_path")
def test_a_function_is_named_in_the_configuration_or_given_in_code(tmp_path: Path) -> None:
    """`module:function` is logged under the function's name beside those of `observe(metrics=...)`."""
    functions = "metrics.custom.functions=[a_users_metrics:exclamations]"
    records = observed(tmp_path / "run", [functions], {"texts": lambda rollout: len(rollout.completions or ())})
    assert series(records, "custom/exclamations") == [3.0, 3.0]
    assert series(records, "custom/texts") == [3.0, 3.0]


@pytest.mark.usefixtures("on_the_path")
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a_users_metric:exclamations", "No module named 'a_users_metric'"),
        ("a_users_metrics.more:exclamations", "'a_users_metrics' is not a package"),
        ("a_users_metrics:exclamation", "has no attribute 'exclamation'"),
        ("a_users_metrics:size", "is a int, not a function"),
        ("exclamations", "should match pattern"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_before_training(name: str, problem: str, tmp_path: Path) -> None:
    """The error has the setting, the name and what is wrong with it, and no run is begun."""
    with pytest.raises(ConfigError) as raised:
        observed(tmp_path / "run", [f"metrics.custom.functions=['{name}']"])
    assert "metrics.custom.functions" in str(raised.value)
    assert f"'{name}'" in str(raised.value)
    assert problem in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_switched_off_nothing_is_imported_or_called(tmp_path: Path) -> None:
    """Neither the configuration's functions nor those in code."""
    off = ["metrics.custom.functions=['nowhere:to_be_found']", "metrics.custom.enabled=false"]
    records = observed(tmp_path, off, {"called": lambda rollout: 1.0})
    assert len(records) == 2
    assert not any(key.startswith("custom/") for record in records for key in record.values)


@pytest.mark.usefixtures("on_the_path")
def test_a_function_that_raises_is_named_once_and_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others, the families of the step and the steps after it are logged."""
    functions = "metrics.custom.functions=[a_users_metrics:broken,a_users_metrics:exclamations]"
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        records = observed(tmp_path / "run", [functions])
    assert series(records, "custom/exclamations") == [3.0, 3.0]
    assert series(records, "rewards/correct/mean") == pytest.approx([2 / 3, 2 / 3])
    assert series(records, "custom/broken") == []
    (said,) = caplog.messages
    assert "broken raised KeyError: 'no such thing'" in said


@pytest.mark.parametrize("given", [None, object(), [1.0, 2.0], {"deep": None}])
def test_what_is_no_number_is_named_and_left_out(given: object, caplog: pytest.LogCaptureFixture) -> None:
    """A function that forgot its return, or returns a list, is told by its key."""
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        sink = logged({"odd": lambda rollout: given, "good": lambda rollout: 1.0}, [ROLLOUT] * 2)
    assert sink.series("custom/good") == [(0, 1.0), (1, 1.0)]
    (said,) = caplog.messages
    assert "'custom/odd" in said


def test_functions_are_called_on_schedule_and_for_rollouts_only(caplog: pytest.LogCaptureFixture) -> None:
    """Every two steps of five; not where the step has no rollout, or numbers that are measured already: no warning."""
    called = []

    def function(rollout: Rollout) -> float:
        called.append(rollout)
        return 1.0

    sink = logged({"one": function}, [ROLLOUT] * 5, CustomFamily(every=2))
    assert sink.series("custom/one") == [(0, 1.0), (2, 1.0), (4, 1.0)]
    assert len(called) == 3
    assert logged({"one": function}, [None, measure(ROLLOUT)]).records == []
    assert logged({}, [ROLLOUT]).records == []
    assert len(called) == 3
    assert caplog.messages == []


def test_the_worker_calls_them_with_the_arrays_of_the_step() -> None:
    """Off the training thread, and with each step's own numbers though those were donated right after it."""
    threads = set()

    def mean_logp(rollout: Rollout) -> float:
        threads.add(threading.current_thread())
        return float(np.mean(np.asarray(rollout.logp)))

    sink, callback = MemorySink(), CustomCallback(CustomFamily(), {"mean_logp": mean_logp})
    donate = jax.jit(lambda x: x * 0, donate_argnums=0)
    with Logger([sink]) as logger:
        for step in range(3):
            logp = jnp.full((3, 2), -1.0 - step)
            callback.on_step(StepEvent(step, logger, Source(replace(ROLLOUT, logp=logp))))
            jax.block_until_ready(donate(logp))
            assert logp.is_deleted()
    assert sink.series("custom/mean_logp") == [(0, -1.0), (1, -2.0), (2, -3.0)]
    assert threads
    assert threading.current_thread() not in threads


def test_the_parts_of_a_step_and_a_rollout_built_later_are_one_rollout() -> None:
    """Micro-batches are joined; a function that builds the rollout is called by the worker."""
    count = {
        "texts": lambda rollout: len(rollout.completions),
        "rewards": lambda rollout: sum(rollout.rewards["correct"]),
    }
    sink = logged(count, [[ROLLOUT, ROLLOUT], lambda: ROLLOUT])
    assert sink.series("custom/texts") == [(0, 6.0), (1, 3.0)]
    assert sink.series("custom/rewards") == [(0, 4.0), (1, 2.0)]
