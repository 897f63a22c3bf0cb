"""What every callback must do, whatever it is for."""

import gc
import math
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import MISSING, FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toolkit.callbacks
from toolkit import backends, build
from toolkit.callbacks import (
    HOOKS,
    Callback,
    CheckpointEvent,
    EndEvent,
    ReportEvent,
    RolloutEvent,
    StartEvent,
    StepEvent,
    SubmitEvent,
)
from toolkit.callbacks.alerts import AlertsCallback
from toolkit.callbacks.batch import BatchCallback
from toolkit.callbacks.checkpoints import CheckpointCallback
from toolkit.callbacks.custom import CustomCallback
from toolkit.callbacks.layers import LayersCallback
from toolkit.callbacks.media import MediaCallback
from toolkit.callbacks.merged_metrics import MergedMetricsCallback
from toolkit.callbacks.metrics import MetricsCallback
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.overlap import OverlapCallback
from toolkit.callbacks.plateau import PlateauRule
from toolkit.callbacks.progress import ProgressCallback
from toolkit.callbacks.resources import HealthCallback, MemoryCallback
from toolkit.callbacks.rules import rules
from toolkit.callbacks.samples import SamplesCallback
from toolkit.callbacks.text import TextMetrics
from toolkit.callbacks.validation import ValidationCallback
from toolkit.compilation import compilations
from toolkit.config import load
from toolkit.logger import Logger
from toolkit.rollout import Rollout
from toolkit.settings.callbacks import (
    Alerts,
    Batch,
    BatchSamples,
    Checkpoints,
    Histograms,
    Layers,
    Media,
    Plateau,
    Progress,
    Samples,
    Validation,
)
from toolkit.settings.metrics import CustomFamily, Family, Metrics
from toolkit.sinks import jsonl
from toolkit.sinks.memory import MemorySink
from toolkit.validation.background import BackgroundValidator
from toolkit.validation.runner import Report


class Alone:
    """A team of one process."""

    alive = True

    def gathered(self, step: int, own: Any) -> list[Any]:
        return [own]

    def close(self) -> None:
        self.alive = False


# Each family costs seconds to compile, and has its own tests.
FEW = Metrics.model_validate({name: name == "advantages" for name in Metrics.model_fields if name != "success"})
REPORT = Report("sums", "", 1, 0.0, ["p"], ["c"], ["r"], {"accuracy": [1.0]})
CALLBACKS: dict[str, Callable[[Path], Callback]] = {
    "metrics": lambda path: MetricsCallback(FEW),
    "merged metrics": lambda path: MergedMetricsCallback(FEW, TextMetrics(FEW), Alone()),
    "samples": lambda path: SamplesCallback(Samples(every=1)),
    "custom": lambda path: CustomCallback(CustomFamily(), {"count": lambda rollout: len(rollout.completions or ())}),
    "batch": lambda path: BatchCallback(Batch(samples=BatchSamples(every=1))),
    "layers": lambda path: LayersCallback(Layers(every=1, histograms=Histograms(every=2))),
    "media": lambda path: MediaCallback(Media(every=1), {"grey": lambda scene: np.zeros((2, 2), np.uint8)}),
    "overlap": lambda path: OverlapCallback(lambda prompts: None),
    "progress": lambda path: ProgressCallback(Progress(every=1)),
    "memory": lambda path: MemoryCallback(Family(every=1)),
    "health": lambda path: HealthCallback(Family(every=1)),
    "checkpoints": lambda path: CheckpointCallback(Checkpoints(enabled=True, every=1), path / "checkpoints"),
    "alerts": lambda path: AlertsCallback([*rules(Alerts(), checkpoint=True), PlateauRule(Plateau(stop=True), True)]),
    "validation": lambda path: ValidationCallback(
        Validation(every=1), BackgroundValidator(lambda policy, step: [REPORT])
    ),
}
ROLLOUT = Rollout(
    rewards={"correct": [1.0, None], "format": [0.0, 1.0]},
    advantages=np.array([1.0, -1.0], np.float32),
    mask=np.ones((2, 3), bool),
    logp=np.full((2, 3), -0.5, np.float32),
    group_size=2,
    prompts=["p", "p"],
    completions=["<answer>1</answer>", ""],
)
STEPS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "everything": {
        "rollout": ROLLOUT,
        "update": ROLLOUT,
        "values": {"loss": 0.5, "deep": {"er": 1}},
        "batch": {"return": np.ones(3), "loss": 0.5, "text": ["a", "b", "c"]},
        "trees": {"gradients": {"w": jnp.ones(3)}, "parameters": {"w": jnp.ones(3)}},
    },
    "empty": {"rollout": Rollout(), "values": {}, "batch": {}, "trees": {}},
    "parts": {"rollout": [ROLLOUT, ROLLOUT]},
    "later": {"rollout": lambda: ROLLOUT, "trees": lambda: {}},
    "numbers that are none": {"values": {"loss": math.nan}, "batch": {"return": np.full(3, np.nan)}},
    "of other kinds": {"rollout": 5, "values": {"loss": object()}, "batch": {"x": object()}, "trees": {"x": object()}},
    "of no kind": {"rollout": object(), "values": 7, "batch": 7, "trees": 7},
    "lengths that differ": {"rollout": Rollout(rewards={"a": [1.0]}, completions=["x", "y"])},
    "functions that raise": {"rollout": lambda: 1 / 0, "trees": lambda: 1 / 0},
}


@pytest.fixture(params=CALLBACKS)
def callback(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callback]:
    made = CALLBACKS[request.param](tmp_path)
    yield made
    if isinstance(made, ValidationCallback):
        made.close()


def observed(callback: Callback, sink: MemorySink, path: Path) -> Observer:
    """An observer that has the callback, as `build` gives it."""
    processors = [callback] if isinstance(callback, AlertsCallback) else []
    validation = callback if isinstance(callback, ValidationCallback) else None
    return Observer(Logger([sink], processors), [] if validation else [callback], validation, path)


def rows(sink: MemorySink) -> list[tuple[str, int]]:
    return [(record.stream, record.step) for record in sink.records]


@pytest.mark.parametrize("given", STEPS)
def test_no_step_makes_it_raise(callback: Callback, given: str, tmp_path: Path) -> None:
    """Whatever a loop hands over, the call returns, and the steps after it are observed."""
    sink = MemorySink()
    with observed(callback, sink, tmp_path) as observer:
        for step in range(3):
            observer.step(step, **STEPS[given])
        observer.step(3, values={"loss": 0.5})
        observer.log(4, {"last": 1.0})
    assert sink.series("last") == [(4, 1.0)]


@pytest.mark.parametrize("step", ["three", None, -5, 2**40, 1.5])
def test_no_number_of_a_step_makes_it_raise(callback: Callback, step: Any, tmp_path: Path) -> None:
    """One that is none is reported, and nothing else happens."""
    with observed(callback, MemorySink(), tmp_path) as observer:
        observer.start(step)
        observer.ahead(step, ROLLOUT)
        observer.step(step, ROLLOUT)
        observer.validate(step, None)  # type: ignore[arg-type]  # the mistake that is tested
        observer.saved(step, None)  # type: ignore[arg-type]  # wrong on purpose


def test_every_hook_takes_its_least_event(callback: Callback, tmp_path: Path) -> None:
    """With the fields that an event must have and no others, in any order, and twice."""
    with Logger([]) as logger:
        events = (
            EndEvent(None, logger),
            ReportEvent(9, REPORT, logger),
            SubmitEvent(1, logger),
            CheckpointEvent(1, tmp_path / "host", "a test", logger),
            StepEvent(1, logger),
            RolloutEvent(1, logger),
            StartEvent(0, logger),
        )
        names = ("on_end", "on_report", "on_submit", "on_checkpoint", "on_step", "on_rollout", "on_start")
        assert set(names) == set(HOOKS)
        for name, event in [*zip(names, events, strict=True)] * 2:
            getattr(callback, name, lambda event: None)(event)


@pytest.mark.parametrize(
    "event", [StartEvent, RolloutEvent, StepEvent, SubmitEvent, ReportEvent, CheckpointEvent, EndEvent]
)
def test_no_callback_can_change_what_the_others_are_told(event: type) -> None:
    """The event of each hook is frozen, and has no room for more."""
    given = [None] * sum(field.default is MISSING and field.default_factory is MISSING for field in fields(event))
    made = event(*given)
    with pytest.raises(FrozenInstanceError):
        made.step = 7
    assert not hasattr(made, "__dict__")


def test_rows_that_wait_keep_no_gradients_and_no_batch(callback: Callback, tmp_path: Path) -> None:
    """However far behind the worker is, what was lent for a step is free when the step is over."""
    behind, lent = threading.Event(), []
    with observed(callback, MemorySink(), tmp_path) as observer:
        observer.logger.log(0, lambda: {"waited": float(behind.wait(60))})
        for step in range(1, 4):
            given: dict[str, Any] = {"trees": {"gradients": {"w": jnp.ones(3)}}, "batch": {"return": jnp.ones(3)}}
            lent += [weakref.ref(array) for array in jax.tree.leaves(given)]
            observer.step(step, ROLLOUT, **given)
            del given
        gc.collect()
        kept = sum(reference() is not None for reference in lent)
        behind.set()
    assert len(lent) == 6
    assert kept == 0


def test_no_callback_can_write_into_what_the_loop_gave() -> None:
    """The loop's dictionaries stay as they were; those that hold arrays remain trees to JAX."""

    class Writer:
        def on_step(self, event: StepEvent) -> None:
            for given in (event.values, event.timings):
                with pytest.raises(TypeError, match="does not support item assignment"):
                    given["loss"] = 0.0  # type: ignore[index]  # wrong on purpose
            for tree in (event.batch, event.trees):
                assert jax.tree.leaves(tree) == [0.5]
                tree["loss"] = 0.0  # type: ignore[index]  # wrong on purpose

    logger = Logger([])
    lent: list[dict[str, Any]] = [{"loss": 0.5} for _ in range(4)]
    with Observer(logger, [Writer()]) as observer:
        observer.step(0, values=lent[0], timings=lent[1], batch=lent[2], trees=lent[3])
    assert lent == [{"loss": 0.5}] * 4
    assert logger.health.bad_values == 0


def test_it_can_be_closed_unused_and_twice(callback: Callback, tmp_path: Path) -> None:
    """A run that ends before its first step ends cleanly, and once."""
    sink = MemorySink()
    observer = observed(callback, sink, tmp_path)
    observer.close()
    ended = rows(sink)
    observer.close()
    assert rows(sink) == ended == []
    assert observer.logger.health.bad_values == 0


def test_its_seconds_are_counted(callback: Callback, tmp_path: Path) -> None:
    """Under its own name, in what the next step is told."""

    class Reader:
        def __init__(self) -> None:
            self.seconds: dict[str, float] = {}

        def on_step(self, event: StepEvent) -> None:
            self.seconds = dict(event.callback_s)

    reader, logger = Reader(), Logger([])
    validation = callback if isinstance(callback, ValidationCallback) else None
    with Observer(logger, [reader] if validation else [callback, reader], validation, tmp_path) as observer:
        for step in range(2):
            observer.step(step)
    assert reader.seconds.get(type(callback).__name__, 0.0) > 0 or validation


def test_its_docstring_has_the_table_of_its_keys(callback: Callback) -> None:
    """So that the file says what is logged."""
    assert re.search(r"\| key \| what \|\n *\|---\|---\|\n *\| `", type(callback).__doc__ or "")


def test_every_callback_of_the_package_stands_in_this_contract(tmp_path: Path) -> None:
    """A class with a hook that is missing above is found by its name in the files."""
    folder = Path(toolkit.callbacks.__file__).parent
    of_hosts = ("flax", "sb3", "trl")
    paths = [path for path in folder.glob("*.py") if not path.stem.startswith(of_hosts)]
    written = {name for path in paths for name in re.findall(r"^class (\w+Callback)\b", path.read_text(), re.M)}
    assert written == {type(make(tmp_path)).__name__ for make in CALLBACKS.values()}


OFF = (
    *(f"metrics.{family}=false" for family in Metrics.model_fields if family != "success"),
    *(f"{part}=false" for part in ("samples", "batch", "layers", "media", "progress", "alerts", "validation")),
    *("sinks.console=false", "sinks.tensorboard=false"),
)


def test_what_is_off_does_no_work(tmp_path: Path) -> None:
    """With everything off a step compiles nothing, calls nobody, and logs the loop's own scalars alone."""
    before = compilations()
    called: list[Any] = []
    functions: dict[str, Any] = {"never": called.append}
    with build.observer(load("grpo", OFF), tmp_path, metrics=functions, media=functions) as observer:
        for step in range(3):
            observer.step(step, **STEPS["everything"])
    assert (compilations(), called) == (before, [])
    keys = {key for record in jsonl.read(tmp_path / backends.JOURNAL) for key in record.values}
    assert keys == {"config", "trainer/loss", "trainer/deep/er"}
    assert not (tmp_path / build.CHECKPOINTS).exists()
