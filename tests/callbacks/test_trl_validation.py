"""The model that TRL trains is validated beside the training, which does not notice."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

import toolkit
from tests.callbacks.tiny_trl import WARNINGS, model, trainer, vowels
from toolkit.callbacks import Callback, StepEvent, Stop, trl_validation
from toolkit.record import Record, Text
from toolkit.sinks.jsonl import read

pytestmark = [pytest.mark.filterwarnings(warning) for warning in WARNINGS]
HELDOUT = toolkit.HeldOut("sums", [f"{number} plus 1 is" for number in range(6)], ["1"] * 6)
OVERRIDES = ["sinks.console=false", "sinks.tensorboard=false", "validation.every=2", "validation.close_s=250"]

BEST = "checkpoints.best='*/format_strict'"


def trained(
    directory: Path,
    heldout: toolkit.HeldOut | None = HELDOUT,
    policy: Any = None,
    quantised: bool = False,
    overrides: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
) -> tuple[Any, list[Record]]:
    """A finished trainer, and the held-out rows of its run."""
    host = trainer(directory, [vowels], policy, learning_rate=1e-3)
    if quantised:  # only now: the trainer itself would look for the quantiser
        setattr(host.model, "is_quantized", True)  # noqa: B010  # a module's own attributes have no types
    overrides = [*OVERRIDES, *overrides]
    toolkit.watch(host, "grpo", directory / "run", overrides=overrides, heldout=heldout, callbacks=callbacks)
    host.train()
    rows = read(directory / "run" / "metrics.jsonl")
    return host, [row for row in rows if "heldout/sums/accuracy" in row.values]


def steps(rows: list[Record]) -> list[int]:
    return [row.policy_step for row in rows]


def losses(host: Any) -> list[float]:
    return [row["loss"] for row in host.state.log_history if "loss" in row]


def adapted() -> Any:
    torch.manual_seed(0)
    return get_peft_model(model(), LoraConfig(target_modules=["q_proj", "v_proj"], r=4))


def test_the_training_is_bit_identical_with_and_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Losses and weights, while a thread validates; the first and the last policy are always validated."""
    bare, nothing = trained(tmp_path / "without", None)
    validated, rows = trained(tmp_path / "with")
    assert losses(validated) == losses(bare)
    assert len(losses(bare)) == 4
    pairs = zip(validated.model.parameters(), bare.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert steps(nothing) == []
    assert steps(rows)[0] == 0
    assert steps(rows)[-1] == 4
    assert not any("waits for each validation" in message for message in caplog.messages)


def test_a_row_says_what_was_validated_and_when(tmp_path: Path) -> None:
    """The step of the policy, those at which it was submitted and finished, the time, and the data's fingerprint."""
    _, rows = trained(tmp_path)
    for row in rows:
        values = row.values
        finished = values["heldout/sums/finished_step"]
        assert isinstance(finished, float)
        assert values["heldout/sums/submitted_step"] == row.policy_step <= finished
        assert isinstance(values["heldout/sums/duration_s"], float)
        assert values["heldout/sums/fingerprint"] == Text(HELDOUT.fingerprint)


def test_an_adapter_is_validated_and_its_training_is_bit_identical(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The base is used by both, the training and the thread."""
    bare, _ = trained(tmp_path / "without", None, adapted())
    validated, rows = trained(tmp_path / "with", HELDOUT, adapted())
    assert losses(validated) == losses(bare)
    assert steps(rows)[-1] == 4
    assert not any("waits for each validation" in message for message in caplog.messages)


def test_a_quantised_model_is_validated_while_the_training_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and every policy that is due is validated."""
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        _, rows = trained(tmp_path, quantised=True)
    assert any("waits for each validation: it is quantised" in message for message in caplog.messages)
    assert steps(rows) == [0, 2, 4]


def test_a_policy_that_is_validated_is_the_one_that_is_saved(tmp_path: Path) -> None:
    """The trainer saves after the very step, and so the best checkpoint is known."""
    trained(tmp_path, quantised=True, overrides=["checkpoints=true", "validation.scorers=[format]", BEST])
    index = json.loads((tmp_path / "run" / "checkpoints" / "index.json").read_text())
    heldout = {entry["step"]: list(entry["heldout"]) for entry in index["checkpoints"]}
    assert heldout == {2: ["sums/format_strict"], 4: ["sums/format_strict"]}
    assert Path(index["best"]).name in {"checkpoint-2", "checkpoint-4"}


class Enough:
    """Ends the training after a step."""

    def __init__(self, last: int) -> None:
        self.last = last

    def on_step(self, event: StepEvent) -> None:
        if event.step == self.last:
            event.ask(Stop("it is enough"))


def test_the_last_policy_is_validated_where_a_callback_ends_the_training(tmp_path: Path) -> None:
    """Also when no validation is due then."""

    host, rows = trained(tmp_path, callbacks=[Enough(3)])
    assert host.state.global_step == 3
    assert steps(rows)[-1] == 3


def test_a_model_that_is_spread_over_processes_is_saved_for_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last policy is validated from a directory, which is gone afterwards."""
    monkeypatch.setattr(trl_validation, "is_sharded", lambda _: True)
    _, rows = trained(tmp_path)
    assert steps(rows)[-1] == 4
    assert not list(tmp_path.glob("validated-*"))


def test_a_policy_is_handed_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the step at which it was due turns out to be the last: it is not saved over while it is loaded."""
    monkeypatch.setattr(trl_validation, "is_sharded", lambda _: True)
    host = trainer(tmp_path, [vowels], learning_rate=1e-3)
    saved: list[str] = []
    save = host.save_model

    def kept(path: str) -> None:
        saved.append(Path(path).name)
        save(path)

    monkeypatch.setattr(host, "save_model", kept)
    overrides = [*OVERRIDES, "validation.every=3"]
    toolkit.watch(host, "grpo", tmp_path / "run", overrides=overrides, heldout=HELDOUT, callbacks=[Enough(3)])
    host.train()
    assert saved == ["validated-0", "validated-3"]
    rows = [row for row in read(tmp_path / "run" / "metrics.jsonl") if "heldout/sums/accuracy" in row.values]
    assert steps(rows)[-1] == 3


def test_a_validation_that_cannot_be_made_costs_the_training_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What raises on the training thread is logged, and the training goes on to its end."""

    def refuse(*_: Any) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(trl_validation, "policy_of", refuse)
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        host, rows = trained(tmp_path)
    assert host.state.global_step == 4
    assert steps(rows) == []
    assert any("validation of step 0" in message and "none left" in message for message in caplog.messages)
