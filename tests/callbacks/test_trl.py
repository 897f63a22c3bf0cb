"""The TRL adapter on real trainers: its metrics are TRL's own where both have one, and it changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

import toolkit
from tests.callbacks import tiny_trl
from tests.callbacks.tiny_trl import (
    SILENT,
    Recorder,
    at_least,
    built,
    journal,
    logged,
    other_score,
    score,
    sometimes,
    vowels,
)
from toolkit.callbacks import StepEvent, trl
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.trl import attach
from toolkit.config import Config, load
from toolkit.logger import Logger
from toolkit.record import Table
from toolkit.sinks.jsonl import read

pytestmark = [pytest.mark.filterwarnings(line) for line in tiny_trl.WARNINGS]

LAYERS = ["layers.every=1", "layers.histograms.every=1"]
QUIET = [*SILENT, *LAYERS, "sinks.tensorboard=false", "samples.every=1"]


class Run:
    """A training that uses all there is: three rewards, a reference model, two updates a batch, evaluation."""

    def __init__(self, directory: Path, saved: Path, watched: bool) -> None:
        self.directory = directory / "run"
        self.trainer = tiny_trl.trainer(
            directory,
            [vowels, at_least(4), sometimes],
            policy=str(saved),
            num_iterations=2,
            beta=0.04,
            use_bias_correction_kl=False,
            epsilon=0.1,
            epsilon_high=0.3,
            reward_weights=[1.0, 0.5, 2.0],
            eval_strategy="steps",
            eval_steps=1,
            per_device_eval_batch_size=8,
        )
        if watched:
            toolkit.watch(self.trainer, "grpo", log_dir=self.directory, overrides=QUIET)
        self.trainer.train()
        self.rows = journal(self.directory) if watched else {}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model on disk: TRL wants a path where it also loads the reference model."""
    directory = tmp_path_factory.mktemp("model")
    tiny_trl.model().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, saved: Path) -> Run:
    """The training, observed."""
    return Run(tmp_path_factory.mktemp("watched"), saved, watched=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, saved: Path) -> Run:
    """The same training, not observed."""
    return Run(tmp_path_factory.mktemp("alone"), saved, watched=False)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("rewards/total/mean", "reward"),
        ("rewards/vowels/mean", "rewards/vowels/mean"),
        ("rewards/at_least/mean", "rewards/at_least/mean"),
        ("rewards/sometimes/mean", "rewards/sometimes/mean"),
        ("groups/zero_std_fraction", "frac_reward_zero_std"),
        ("completions/length_mean", "completions/mean_length"),
        ("completions/terminated_length_max", "completions/max_terminated_length"),
        ("completions/truncated_fraction", "completions/clipped_ratio"),
        ("policy/entropy", "entropy"),
        ("policy/clip_low", "clip_ratio/low_mean"),
        ("policy/clip_high", "clip_ratio/high_mean"),
        ("policy/kl_ref_k3", "kl"),
    ],
)
def test_equals_what_trl_logs(
    watched: Run, ours: str, theirs: str, record_property: Callable[[str, object], None]
) -> None:
    """At each step where TRL logs a quantity, ours is the same number, and at no other step is there one."""
    expected = logged(watched.trainer, theirs)
    if theirs == "completions/max_terminated_length":  # TRL's 0 is that no completion came to an end
        expected = {step: length for step, length in expected.items() if length}
    found = {step: row[ours] for step, row in watched.rows.items() if ours in row}
    assert found == pytest.approx(expected, abs=1e-5)
    record_property("difference", max(abs(found[step] - expected[step]) for step in expected))


def test_the_clip_binds(watched: Run) -> None:
    """The run is a test of the clip shares: they are above zero on the second update of a batch."""
    assert watched.rows[2]["policy/clip_low"] > 0
    assert watched.rows[2]["policy/clip_high"] > 0


def test_training_is_bit_identical(watched: Run, alone: Run) -> None:
    """Every loss, gradient norm and final weight is the same with and without the observer."""
    for key in ("loss", "grad_norm", "eval_loss", "reward", "kl"):
        assert logged(watched.trainer, key) == logged(alone.trainer, key)
    ours, theirs = (run.trainer.model_wrapped.state_dict() for run in (watched, alone))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_layers_at_every_step(watched: Run) -> None:
    """Gradients are as the trainer clipped them, to 1, and each layer has histograms."""
    norms = {step: row["layers/total/gradient_norm"] for step, row in watched.rows.items()}
    clipped = {step: min(norm, 1.0) for step, norm in logged(watched.trainer, "grad_norm").items()}
    assert norms == pytest.approx(clipped, rel=1e-4)
    assert all("layers/model.layers.0/gradient_histogram" in row for row in watched.rows.values())


def test_logs_the_trainers_scalars(watched: Run) -> None:
    """What the trainer logs stands under `trainer/` at its step, evaluation and the summary of the run included."""
    for key in ("loss", "grad_norm", "eval_loss", "eval_reward", "train_runtime"):
        ours = {step: row[f"trainer/{key}"] for step, row in watched.rows.items() if f"trainer/{key}" in row}
        assert ours == pytest.approx(logged(watched.trainer, key))


def test_generations_only_where_there_is_one(watched: Run) -> None:
    """A step that updates on older completions has no rewards, and evaluation between the steps adds none."""
    assert [step for step, row in watched.rows.items() if "rewards/total/mean" in row] == [1, 3]
    assert [step for step, row in watched.rows.items() if "policy/entropy" in row] == [1, 2, 3, 4]


def test_coverage_of_a_reward_that_is_sometimes_none(watched: Run) -> None:
    """None is not 0: it lowers the coverage."""
    assert 0 < watched.rows[1]["rewards/sometimes/coverage"] < 1


def test_samples_have_the_texts(watched: Run) -> None:
    """The samples show prompt, completion and the dataset's answer beside the rewards."""
    tables = [row.values["samples/completions"] for row in read(watched.directory / "samples" / "completions.jsonl")]
    assert len(tables) == 2
    for table in tables:
        assert isinstance(table, Table)
        texts, rewards = ("prompt", "completion", "reference"), ("vowels", "at_least", "sometimes")
        assert table.columns == ("chosen", *texts, *rewards, "advantage")
        assert [row[0] for row in table.rows][:2] == ["best", "worst"]
        for _, prompt, _, reference, *_ in table.rows:
            number = int(str(reference)) // 2
            assert prompt == f"{number} plus {number} is"


def test_gives_the_trainer_back(watched: Run) -> None:
    """After the training the trainer has its own methods again."""
    wrapped = {"_calculate_rewards", "_compute_loss", "_generate_and_score_completions"}
    assert not wrapped & set(vars(watched.trainer))


def test_the_clip_range_is_the_trainers(watched: Run) -> None:
    """The configuration that is written beside the metrics has the clip range of the trainer."""
    policy = load(watched.directory / "config.yaml").metrics.policy
    assert (policy.clip_low, policy.clip_high) == (0.1, 0.3)


def test_jax_stays_on_the_cpu(watched: Run) -> None:
    """JAX is told to leave the trainer's accelerator alone."""
    assert jax.config.jax_platforms == "cpu"  # type: ignore[attr-defined]  # jax.config has no types


@pytest.fixture(scope="module")
def accumulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, list[StepEvent]]:
    """A conversation trained on in two micro-batches a step, by two rewards of one name, without the truncated."""
    directory = tmp_path_factory.mktemp("accumulated")
    recorder = Recorder()
    trainer = tiny_trl.trainer(
        directory,
        [score, other_score],
        conversational=True,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        mask_truncated_completions=True,
        max_steps=2,
    )
    attach(trainer, Config(), None, lambda config, log_dir: Observer(Logger(()), [recorder], log_dir=log_dir))
    trainer.train()
    return trainer, recorder.events


def test_an_update_has_all_micro_batches(accumulated: tuple[Trainer, list[StepEvent]]) -> None:
    """The update of a step has the rows of both micro-batches, and no old policy as that is the policy itself."""
    for event in accumulated[1]:
        update = built(event.update)
        assert update.logp is not None
        assert update.entropy is not None
        assert update.mask is not None
        assert len(update.logp) == len(update.mask) == 8
        assert update.old_logp is None
        assert (update.entropy[update.mask] > 0).all()


def test_rewards_of_one_name_stay_apart(accumulated: tuple[Trainer, list[StepEvent]]) -> None:
    """Two functions of one name become `score` and `score#2`; TRL averages them under one key."""
    trainer, events = accumulated
    for event, mean in zip(events, logged(trainer, "rewards/score/mean").values(), strict=True):
        rewards = built(event.rollout).rewards
        assert list(rewards) == ["score", "score#2"]
        assert np.mean(list(rewards.values())) == pytest.approx(mean, abs=1e-5)


def test_truncated_completions_keep_their_length(accumulated: tuple[Trainer, list[StepEvent]]) -> None:
    """A truncated completion counts with its tokens where TRL masks it out of the loss."""
    trainer, events = accumulated
    for event, length in zip(events, logged(trainer, "completions/mean_length").values(), strict=True):
        rollout = built(event.rollout)
        assert rollout.mask is not None
        assert rollout.truncated is not None
        assert rollout.truncated.any()
        assert rollout.mask.sum(axis=1).mean() == pytest.approx(length)


def test_conversations_become_text(accumulated: tuple[Trainer, list[StepEvent]]) -> None:
    """Prompts and completions that are messages are handed on as what the messages say."""
    rollout = built(accumulated[1][0].rollout)
    assert rollout.prompts is not None
    assert rollout.completions is not None
    assert all(" plus " in prompt for prompt in rollout.prompts)
    assert all(isinstance(completion, str) for completion in rollout.completions)


class Weights:
    """Reward weights that TRL can use and the capture cannot read."""

    def to(self, device: Any) -> torch.Tensor:
        return torch.ones(1, device=device)


def test_a_level_that_fails_costs_only_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A host whose rewards cannot be read trains on, with one warning, and its tokens are still observed."""
    trainer = tiny_trl.trainer(tmp_path / "host", [score], max_steps=2)
    trainer.reward_weights = Weights()  # type: ignore[assignment]  # wrong on purpose
    toolkit.watch(trainer, "minimal", log_dir=tmp_path / "run", overrides=[*SILENT, "metrics.policy=true"])
    trainer.train()
    rows = journal(tmp_path / "run")
    assert [row["policy/entropy"] for row in rows.values()] == pytest.approx([*logged(trainer, "entropy").values()])
    assert not any("rewards/total/mean" in row for row in rows.values())
    assert [record.message for record in caplog.records if record.name == "toolkit"] == [
        "not observed from now on: rewards and completions: _calculate_rewards is not what was expected: "
        "AttributeError: 'Weights' object has no attribute 'detach'. Training goes on"
    ]


def untouchable(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no longer")


def no_evaluation(trainer: Any, patch: pytest.MonkeyPatch) -> None:
    """A model that cannot be run but for the training."""
    forward = trainer.model.forward

    def only_trained(*arguments: Any, **named: Any) -> Any:
        if not trainer.model.training and named.get("use_cache") is False:
            raise RuntimeError("only trained")
        return forward(*arguments, **named)

    patch.setattr(trainer.model, "forward", only_trained)


def no_accelerator_state(trainer: Any, patch: pytest.MonkeyPatch) -> None:
    """An accelerator that no longer says whether the last micro-batch is at hand."""

    patch.setattr(type(trainer.accelerator), "sync_gradients", property(untouchable))


def no_layers(trainer: Any, patch: pytest.MonkeyPatch) -> None:
    """Parameters that cannot be reduced."""
    patch.setattr(trl, "tensor_statistics", untouchable)


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (no_evaluation, "drift of the policy: the initial policy cannot be run: RuntimeError: only trained"),
        (no_accelerator_state, "a step before it ends: the trainer is not what was expected: RuntimeError"),
        (no_layers, "norms of layers: they cannot be read: RuntimeError: no longer"),
    ],
)
def test_what_a_host_no_longer_has_is_given_up_once(
    change: Callable[[Any, pytest.MonkeyPatch], None],
    level: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The training goes on to its end, and everything else is observed."""
    trainer = tiny_trl.trainer(tmp_path / "host", [score], max_steps=2, eval_dataset=tiny_trl.prompts(2))
    settings = [*SILENT, *LAYERS, "metrics.drift.every=1", "metrics.policy=true"]
    toolkit.watch(trainer, "minimal", log_dir=tmp_path / "run", overrides=settings)
    change(trainer, monkeypatch)
    trainer.train()
    rows = journal(tmp_path / "run")
    assert [row["policy/entropy"] for row in rows.values()] == pytest.approx([*logged(trainer, "entropy").values()])
    (said,) = [record.message for record in caplog.records if record.name == "toolkit"]
    assert said.startswith(f"not observed from now on: {level}")


def test_an_error_of_the_host_passes_through(tmp_path: Path) -> None:
    """What a reward function raises reaches the user, and what was logged before is written by then or at exit."""
    calls: list[int] = []

    def breaks(completions: list[str], **_: Any) -> list[float]:
        calls.append(len(completions))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return [0.0] * len(completions)

    trainer = tiny_trl.trainer(tmp_path / "host", [breaks])
    observer = toolkit.watch(trainer, "minimal", overrides=SILENT)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    observer.close()
    assert journal(tmp_path / "host" / "toolkit")[1]["rewards/breaks/coverage"] == 1.0


def test_any_other_trainer_gives_its_scalars(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a plain `transformers.Trainer` only the logged scalars are observed, which is said once."""
    arguments = TrainingArguments(
        str(tmp_path / "host"), max_steps=2, logging_steps=1, report_to=[], disable_tqdm=True, use_cpu=True
    )
    rows = [{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 8
    trainer = Trainer(tiny_trl.model(), arguments, train_dataset=rows)
    toolkit.watch(trainer, "minimal", log_dir=tmp_path / "run", overrides=SILENT)
    trainer.train()
    losses = {step: row["trainer/loss"] for step, row in journal(tmp_path / "run").items()}
    assert losses == pytest.approx(logged(trainer, "loss"))
    assert [record.message for record in caplog.records if record.name == "toolkit"] == [
        "Trainer is not a GRPOTrainer: of it only what it logs is observed"
    ]
