"""Flax loops, linen and NNX: the training scripts, observed and alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toolkit
from tests.scripts import ROOT, script
from toolkit.callbacks.flax import loop_callbacks, policy_of
from toolkit.record import Record, Table
from toolkit.sinks.jsonl import read

STEPS = 4
QUIET = ["sinks.console=false", "validation.every=2", "samples.enabled=true", "samples.every=1"]


@pytest.fixture(autouse=True, scope="module")
def standard_promotion() -> Iterator[None]:
    """Flax and optax rely on promotion; for every thread, as validation has one of its own."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


class Observed(NamedTuple):
    """A script, the directory of its run, and the states that its training began and ended with."""

    script: Any
    run: Path
    first: Any
    state: Any


@pytest.fixture(scope="module")
def linen(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """The linen script, observed."""
    module, run = script("train_flax_linen"), tmp_path_factory.mktemp("linen")
    first = module.start()
    with toolkit.observe("minimal", run, overrides=QUIET) as observer:
        state = module.train(first, jnp.arange(4), STEPS, loop_callbacks(observer))
    return Observed(module, run, first, state)


@pytest.fixture(scope="module")
def nnx(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """The NNX script, observed and validated."""
    module, run = script("train_flax_nnx"), tmp_path_factory.mktemp("nnx")
    heldout = toolkit.HeldOut("digits", module.PROMPTS, ["0", "1", "2", "3"])
    state = module.start()
    with toolkit.observe(
        "minimal", run, overrides=QUIET, heldout=heldout, scorers={"share": share_of_reference}
    ) as observer:
        module.train(state, STEPS, loop_callbacks(observer, module.answer))
    return Observed(module, run, state, state)


def share_of_reference(prompts: Any, completions: Any, references: Any) -> list[float]:
    return [text.count(digit) / 8 for text, digit in zip(completions, references, strict=True)]


def rows(run: Path, stream: str = "train") -> list[Record]:
    """What the journal has of a stream."""
    return [record for record in read(run / "metrics.jsonl") if record.stream == stream]


def logged(run: Path, key: str) -> list[Any]:
    """What was logged of a key, step by step."""
    return [row.values[key] for row in rows(run) if key in row.values]


def same(ours: Any, theirs: Any) -> bool:
    """Whether all arrays of two trees are the same, bit by bit."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return all(np.array_equal(np.asarray(mine), np.asarray(other)) for mine, other in pairs)


def test_a_linen_training_is_bit_identical(linen: Observed) -> None:
    """Every loss and the final weights and moments are those of a loop that knows no observer."""
    state, losses = linen.script.start(), []
    for step in range(STEPS):
        state, loss, _ = linen.script.train_step(state, jnp.arange(4), jax.random.key(step))
        losses.append(float(loss))
    assert logged(linen.run, "trainer/loss") == losses
    assert same((linen.state.params, linen.state.opt_state), (state.params, state.opt_state))


def test_an_nnx_training_is_bit_identical(nnx: Observed) -> None:
    """So they are for NNX, with a validation that has its own thread and a copy of the model."""
    state, losses = nnx.script.start(), []
    for step in range(STEPS):
        loss, _ = nnx.script.train_step(state, jax.random.key(step))
        losses.append(float(loss))
    assert logged(nnx.run, "trainer/loss") == losses
    assert same(nnx.state, state)


def test_statistics_of_the_jitted_step_are_those_of_its_completions(linen: Observed) -> None:
    """What the step returned beside its state is what NumPy makes of the completions it drew."""
    state, module = linen.script.start(), linen.script
    prompts, draw = np.repeat(np.arange(4), module.GROUP), jax.jit(module.draw)
    for step in range(STEPS):
        key = jax.random.key(step)
        tokens = np.asarray(draw(state.params, jnp.asarray(prompts), key))
        assert logged(linen.run, "rewards/ends/mean")[step] == pytest.approx((tokens == module.END).any(axis=1).mean())
        state, *_ = module.train_step(state, jnp.arange(4), key)


def test_the_state_is_still_donated(linen: Observed) -> None:
    """Observing keeps no hold of the state: the buffers of the old one are gone after the next step."""
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(linen.first.params))


def test_nnx_samples_are_text(nnx: Observed) -> None:
    """The samples show prompts and completions as the rewards saw them."""
    (first, *_) = read(nnx.run / "samples" / "completions.jsonl")
    table = first.values["samples/completions"]
    assert isinstance(table, Table)
    assert table.columns == ("chosen", "prompt", "completion", "repeats", "ends", "advantage")
    for _, prompt, completion, repeats, *_ in table.rows:
        assert str(completion).count(str(prompt)[-1]) / 8 == repeats


def test_a_validation_is_of_the_policy_of_its_step(nnx: Observed) -> None:
    """Each result equals that of the model after as many updates in a loop alone, though the next step donated it."""
    state, expected = nnx.script.start(), {}
    for step in range(STEPS):
        nnx.script.train_step(state, jax.random.key(step))
        completions = nnx.script.answer(state.model, nnx.script.PROMPTS)
        expected[step + 1] = np.mean(share_of_reference((), completions, "0123"))
    found = {row.policy_step: row.values["heldout/digits/share"] for row in rows(nnx.run, "heldout")}
    assert found
    assert found == pytest.approx({step: expected[step] for step in found})


def test_a_state_without_parameters_costs_only_the_validation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The loop goes on and its steps are logged; what was expected of the state is said once."""
    heldout = toolkit.HeldOut("sums", ["1 + 1"], ["2"])
    with toolkit.observe("minimal", tmp_path, overrides=QUIET, heldout=heldout) as observer:
        for step in range(4):
            for callback in loop_callbacks(observer, lambda params, prompts: ["2"] * len(prompts)):
                callback(step, object(), loss=0.5)
    assert logged(tmp_path, "trainer/loss") == [0.5] * 4
    assert rows(tmp_path, "heldout") == []
    (said,) = [record.message for record in caplog.records if "params" in record.message]
    assert "a object has neither params, as a TrainState, nor an nnx.Module in model" in said


def test_a_loop_of_callbacks_can_give_all_that_a_step_can(tmp_path: Path) -> None:
    """Trees, times of phases and a batch reach their families, and are no scalars of the loop's."""
    heldout = toolkit.HeldOut("sums", ["1 + 1"], ["2"])
    state = SimpleNamespace(params={"dense": jnp.zeros(2)})
    settings = [*QUIET, "layers={enabled: true, every: 1}", "batch.enabled=true", "metrics.time=true"]
    with toolkit.observe("minimal", tmp_path, overrides=settings, heldout=heldout) as observer:
        for step in range(3):  # the first two compile the norms, with histograms and without
            for callback in loop_callbacks(observer, lambda params, prompts: ["2"] * len(prompts)):
                trees = {"gradients": {"dense": jnp.array([3.0, 4.0])}}
                timings, batch = {"generation_s": 0.25}, {"return": np.array([1.0, 3.0], np.float32)}
                callback(step, state, loss=0.5, trees=trees, timings=timings, batch=batch)
            observer.logger.flush()
    assert logged(tmp_path, "layers/dense/gradient_norm") == [5.0]
    assert logged(tmp_path, "time/generation_s") == [0.25] * 3
    assert logged(tmp_path, "batch/return/mean") == [2.0] * 3
    own = {key for row in rows(tmp_path) for key in row.values if key.startswith("trainer/")}
    assert own == {"trainer/loss"}


def test_a_policy_of_linen_answers_with_its_parameters(linen: Observed) -> None:
    """The function gets the parameters of the `TrainState` as they were at the snapshot."""
    policy = policy_of(linen.state, lambda params, prompts: [str(len(jax.tree.leaves(params)))] * len(prompts))
    assert policy.snapshot().generate(["a", "b"]) == [str(len(jax.tree.leaves(linen.state.params)))] * 2


def test_a_sharded_loop_measures_as_one_device(linen: Observed, tmp_path: Path) -> None:
    """With the prompts on a mesh of four devices the journal has the same numbers: statistics are global."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    command = [sys.executable, "-m", "tests.callbacks.sharded_linen", str(tmp_path), "2"]
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=200)
    found, expected = rows(tmp_path), rows(linen.run)
    for ours, theirs in zip(found, expected, strict=False):
        numbers = {key: value for key, value in theirs.values.items() if key.startswith(("rewards", "trainer"))}
        assert {key: ours.values[key] for key in numbers if isinstance(numbers[key], float)} == pytest.approx(
            {key: value for key, value in numbers.items() if isinstance(value, float)}, abs=1e-5
        )
    assert len(found) == 2


@pytest.mark.parametrize("name", ["train_flax_linen", "train_flax_nnx"])
def test_the_script_runs_from_a_command_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains and writes its run where `--log-dir` says, with the settings that were given."""
    off = "groups advantages policy sampler completions format"
    settings = ["sinks.console=false", *(f"metrics.{family}=false" for family in off.split())]
    monkeypatch.setattr(sys, "argv", [name, "--steps", "2", "--log-dir", str(tmp_path), *settings])
    script(name).main()
    assert len(logged(tmp_path, "rewards/repeats/mean")) == 2
