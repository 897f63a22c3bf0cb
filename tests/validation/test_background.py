"""Validation on a thread: one at a time, the newest waits, nothing reaches the training."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import pytest

from tests.validation.policies import Echo, Failing, Gated
from toolkit.validation import runner
from toolkit.validation.background import BackgroundValidator
from toolkit.validation.heldout import HeldOut
from toolkit.validation.policy import FunctionPolicy, InlinePolicy, Policy
from toolkit.validation.runner import Report, validate
from toolkit.validation.scorers import Correctness
from toolkit.validation.statistics import Estimate, estimate


class Counted(Echo):
    """Counts its snapshots."""

    snapshots = 0

    def snapshot(self) -> Self:
        self.snapshots += 1
        return self


HELDOUT = HeldOut("echo", ["1", "2"], ["1", "2"])


def run(policy: Policy, step: int) -> list[Report]:
    return [validate(policy, HELDOUT, {"accuracy": Correctness()}, policy_step=step)]


def drained(validator: BackgroundValidator) -> list[int]:
    reports = iter(validator.poll, None)
    return [report.policy_step for report in reports]


def eventually(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    return bool(condition())


def test_a_finished_report_is_polled_once_with_the_step_of_its_policy() -> None:
    """Poll never waits: None first, the report when it is there, then None again."""
    validator = BackgroundValidator(run)
    policy = Gated()
    assert validator.submit(5, policy)
    assert validator.poll() is None
    policy.gate.set()
    validator.close()
    assert drained(validator) == [5]


def test_estimates_are_worked_out_on_the_thread_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Means and intervals of many problems take a while, which is not the training thread's to spend."""
    where: list[str] = []

    def watched(scores: Sequence[float], prompts: Sequence[str]) -> Estimate:
        where.append(threading.current_thread().name)
        return estimate(scores, prompts)

    monkeypatch.setattr(runner, "estimate", watched)
    validator = BackgroundValidator(run)
    validator.submit(0, Echo())
    validator.close()
    report = validator.poll()
    assert report
    assert report.estimates["accuracy"].mean == report.values()["heldout/echo/accuracy"]
    assert where == ["toolkit-validation"]


def test_scores_that_have_no_estimate_cost_only_their_data_set(caplog: pytest.LogCaptureFixture) -> None:
    """What a scorer of anyone's gave for the second of three is no number: the first and the third are there."""
    wrong: Any = [None]

    def reports(policy: Policy, step: int) -> Iterator[Report]:
        for number, score in enumerate(([1.0], wrong, [0.0])):
            yield Report(f"data {number}", "", step, 0.0, ["1"], ["1"], ["1"], {"accuracy": score})

    validator = BackgroundValidator(reports)
    validator.submit(7, Echo())
    validator.close()
    assert [report.dataset for report in iter(validator.poll, None)] == ["data 0", "data 2"]
    assert validator.complaints.count == 1
    assert "what 'data 1' gave at step 7" in caplog.text


def test_while_one_is_validated_others_are_refused_and_no_snapshot_is_taken_of_them() -> None:
    """There is one slot; at the end there is time for one more."""
    validator = BackgroundValidator(run)
    busy, other = Gated(), Counted()
    assert validator.submit(0, busy)
    assert not validator.submit(1, other)
    assert other.snapshots == 0
    busy.gate.set()
    validator.close((2, other))
    assert drained(validator) == [0, 2]
    assert other.snapshots == 1


def test_a_policy_for_the_training_thread_is_validated_before_it_goes_on() -> None:
    """The report is there at once, and the thread is the caller's."""
    threads: list[threading.Thread] = []

    class Here(Echo):
        def generate(self, prompts: Sequence[str]) -> Sequence[str]:
            threads.append(threading.current_thread())
            return super().generate(prompts)

    validator = BackgroundValidator(run)
    assert validator.submit(3, InlinePolicy(Here()))
    assert drained(validator) == [3]
    assert threads == [threading.current_thread()]
    validator.close()


def test_a_validation_over_its_budget_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its step, and the next policy is taken."""
    validator = BackgroundValidator(run, budget_s=1e-9)
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        assert validator.submit(1, Echo())
        validator.close()
    assert drained(validator) == []
    assert any("step 1" in message and "validation.budget_s" in message for message in caplog.messages)


def test_a_failure_is_logged_and_the_next_validation_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A policy that raises costs its own report only."""
    validator = BackgroundValidator(run)
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        validator.submit(1, Failing())
        assert eventually(lambda: validator.complaints.count)
        validator.close((2, Echo()))
    assert drained(validator) == [2]
    assert any("step 1" in message and "the server refused" in message for message in caplog.messages)


def test_close_waits_only_as_long_as_it_was_told(caplog: pytest.LogCaptureFixture) -> None:
    """A validation that hangs does not keep the run from ending, and later submissions are refused."""
    validator = BackgroundValidator(run, close_s=0.1)
    policy = Gated()
    validator.submit(0, policy)
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        validator.close()
    assert any("not finished 0.1 s after the end" in message for message in caplog.messages)
    assert not validator.submit(1, Echo())
    policy.gate.set()


def test_the_snapshot_survives_the_donation_of_its_parameters() -> None:
    """A policy submitted between steps answers with its own parameters, though the next step reuses their buffers."""
    parameters = {"answer": jnp.arange(1000.0)}
    gate = threading.Event()
    validator = BackgroundValidator(run)

    def late(p: dict[str, jax.Array], prompts: Sequence[str]) -> list[str]:
        assert gate.wait(30)
        return [f"<answer>{int(p['answer'][1])}</answer>"] * len(prompts)

    validator.submit(1, FunctionPolicy(late, parameters))
    jax.block_until_ready(jax.jit(lambda p: {"answer": p["answer"] * 0}, donate_argnums=0)(parameters))
    assert parameters["answer"].is_deleted()
    gate.set()
    validator.close()
    (report,) = iter(validator.poll, None)
    assert report.completions == ["<answer>1</answer>"] * 2


def test_a_model_that_changes_in_place_is_asked_for_its_parameters_at_each_snapshot() -> None:
    """A policy made once before the loop gives a snapshot of the parameters as they are at that step."""
    model = {"answer": jnp.zeros(())}
    policy = FunctionPolicy(lambda parameters, prompts: [f"{int(parameters['answer'])}"], lambda: model)
    before = policy.snapshot()
    model["answer"] = jnp.ones(())
    assert list(policy.snapshot().generate(["?"])) == ["1"]
    assert list(before.generate(["?"])) == ["0"]


def test_a_snapshot_can_hold_its_parameters_in_bfloat16() -> None:
    """Real floating-point ones; integers stay, and parameters of that type already are copied too."""
    parameters = {"w": jnp.ones(4), "half": jnp.ones(4, jnp.bfloat16), "steps": jnp.arange(4)}
    seen = []

    def look(p: dict[str, jax.Array], prompts: Sequence[str]) -> Sequence[str]:
        seen.append({name: str(leaf.dtype) for name, leaf in p.items()})
        assert not {leaf.unsafe_buffer_pointer() for leaf in p.values()} & originals
        return prompts

    originals = {leaf.unsafe_buffer_pointer() for leaf in parameters.values()}
    FunctionPolicy(look, parameters, dtype=jnp.bfloat16).snapshot().generate(["?"])
    assert seen == [{"w": "bfloat16", "half": "bfloat16", "steps": "int32"}]


def test_a_validation_that_outlives_the_run_does_not_abort_the_process() -> None:
    """A thread that is still inside JAX when the interpreter ends would: the exit waits for it, the code stays 0."""
    code = """
import jax, jax.numpy as jnp, time
from tests.validation.test_background import BackgroundValidator, FunctionPolicy, run

@jax.jit
def work(x):
    return jax.lax.fori_loop(0, 200, lambda _, y: jnp.sin(y @ y), x)

def answer(x, prompts):
    started = time.monotonic()
    while time.monotonic() - started < 4:
        work(x).block_until_ready()
    return list(prompts)

validator = BackgroundValidator(run, close_s=3)
validator.submit(0, FunctionPolicy(answer, jnp.ones((100, 100))))
validator.close()
assert validator.complaints.count == 1, "it should not be finished yet"
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
