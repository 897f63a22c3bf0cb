"""The TRL adapter under the settings that change what a step is: on real trainers, against what TRL itself logs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig
from transformers import Trainer, TrainingArguments
from trl import RLOOConfig, RLOOTrainer  # type: ignore[attr-defined]  # its lazy module hides its names

import toolkit
from tests.callbacks import tiny_trl
from tests.callbacks.tiny_trl import SILENT, Recorder, at_least, built, journal, logged, score
from tests.scripts import script
from toolkit.backends import history
from toolkit.callbacks import Checkpoint, CheckpointEvent, StartEvent, StepEvent, Stop
from toolkit.callbacks.asks import Request
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.trl import TRLCallback, attach, of_data_set
from toolkit.config import Config
from toolkit.logger import Logger
from toolkit.validation.heldout import HeldOut

pytestmark = [pytest.mark.filterwarnings(line) for line in tiny_trl.WARNINGS]

QUIET = [*SILENT, "metrics.throughput=false", "metrics.groups=false"]
PLAIN: dict[str, Any] = {"report_to": [], "disable_tqdm": True, "use_cpu": True}
UNWANTED = "policy format groups advantages drift".split()
TOKENS = [*QUIET, "metrics.policy=true"]


async def patient(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [len(ids) / 8 for ids in completion_ids]


def equal(rows: dict[int, dict[str, Any]], ours: str, theirs: dict[int, float]) -> None:
    """At each step where TRL logged it, and at no other, ours is the same."""
    assert {step: row[ours] for step, row in rows.items() if ours in row} == pytest.approx(theirs, abs=1e-5)


class WithAdapter:
    """A training of an adapter with dropout, by a function and a coroutine, evaluated on two sets, saved on its way."""

    def __init__(self, directory: Path, watched: bool, steps: int = 4, resume: bool = False) -> None:
        self.directory = directory / "run"
        self.trainer = tiny_trl.trainer(
            directory,
            [score, patient],
            peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.2, task_type="CAUSAL_LM"),
            eval_dataset={"small": tiny_trl.prompts(2), "large": tiny_trl.prompts(4)},
            eval_strategy="steps",
            eval_steps=2,
            per_device_eval_batch_size=8,
            save_strategy="steps",
            save_steps=2,
            max_steps=steps,
        )
        if watched:
            toolkit.watch(
                self.trainer,
                "minimal",
                self.directory,
                overrides=[*TOKENS, "metrics.drift.every=1", "metrics.throughput=true"],
            )
        self.trainer.train(resume_from_checkpoint=str(directory / "checkpoint-2") if resume else None)
        self.rows = journal(self.directory) if watched else {}

    def weights(self) -> dict[str, torch.Tensor]:
        return dict(self.trainer.model_wrapped.state_dict())


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> WithAdapter:
    """That training, observed."""
    return WithAdapter(tmp_path_factory.mktemp("adapter"), watched=True)


def test_an_adapter_is_observed(adapter: WithAdapter) -> None:
    """Entropy and rewards of a PEFT model are TRL's own."""
    equal(adapter.rows, "policy/entropy", logged(adapter.trainer, "entropy"))
    equal(adapter.rows, "rewards/total/mean", logged(adapter.trainer, "reward"))


def test_nothing_moves_the_random_numbers(adapter: WithAdapter, tmp_path: Path) -> None:
    """With dropout, and the policy run on held-out texts at every step, losses and weights are bit-identical."""
    alone = WithAdapter(tmp_path, watched=False)
    for key in ("loss", "grad_norm", "reward", "eval_reward"):
        assert logged(adapter.trainer, key) == logged(alone.trainer, key)
    theirs = alone.weights()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in adapter.weights().items())


def test_the_times_of_a_step(adapter: WithAdapter) -> None:
    """Each step says how long it generated, scored and trained, and how long each reward function took."""
    for row in adapter.rows.values():
        phases = [row[f"time/{phase}"] for phase in ("generation_s", "reward_s", "train_s")]
        latencies = [row[f"rewards/{name}/latency_s"] for name in ("score", "patient")]
        assert all(seconds > 0 for seconds in (*phases, *latencies))
        assert row["throughput/generation_tokens_per_s"] > 0


def test_each_evaluation_has_its_own_keys(adapter: WithAdapter) -> None:
    """Of two evaluation sets each has its reward, which TRL logs under one key."""
    for step in (2, 4):
        small, large = [row["eval_reward"] for row in adapter.trainer.state.log_history if _evaluated(row, step)]
        assert adapter.rows[step]["trainer/eval_small_reward"] == pytest.approx(small)
        assert adapter.rows[step]["trainer/eval_large_reward"] == pytest.approx(large)
        assert "trainer/eval_reward" not in adapter.rows[step]


def _evaluated(row: dict[str, Any], step: int) -> bool:
    return row["step"] == step and "eval_reward" in row


def test_drift_from_the_initial_policy(adapter: WithAdapter) -> None:
    """Without a reference model there is a KL to the initial policy, on texts that stay the same; it grows."""
    drift = [row["policy/kl_init_k3"] for row in adapter.rows.values()]
    assert 0 < drift[0] < drift[-1]


def test_drift_on_what_is_validated_on(tmp_path: Path) -> None:
    """A trainer without evaluation data has its drift on the data that is held out by `heldout`."""
    heldout = HeldOut("sums", ["2 plus 2 is", "1 plus 2 is"], ["4", "3"])
    trainer = tiny_trl.trainer(tmp_path, [score], max_steps=2, eval_dataset=None)
    settings = ["metrics.drift.every=1", "validation=false"]
    toolkit.watch(trainer, "grpo", tmp_path / "off", overrides=[*TOKENS, *settings], heldout=heldout)
    trainer.train()
    assert not any("policy/kl_init_k3" in row for row in journal(tmp_path / "off").values())
    settings = ["metrics.drift.every=1", "validation.scorers=[format]", "validation.every=100"]
    toolkit.watch(trainer, "grpo", tmp_path / "run", overrides=[*TOKENS, *settings], heldout=heldout)
    trainer.train()
    assert [step for step, row in journal(tmp_path / "run").items() if row.get("policy/kl_init_k3", 0) > 0] == [1, 2]


def test_a_resumed_run_goes_on(adapter: WithAdapter, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Resumed at a checkpoint, the history has each step once, and drift still counts from the first policy."""
    directory = adapter.directory.parent
    before = adapter.rows
    WithAdapter(directory, watched=True, steps=5, resume=True)
    clean = [record for record in history(adapter.directory).records() if record.stream == "train"]
    steps = [record.step for record in clean if "policy/entropy" in record.values]
    assert steps == [1, 2, 3, 4, 5]
    drift = {
        record.step: record.values["policy/kl_init_k3"] for record in clean if "policy/kl_init_k3" in record.values
    }
    assert drift[3] == pytest.approx(before[3]["policy/kl_init_k3"], rel=1e-3)


def test_leave_one_out(tmp_path: Path) -> None:
    """RLOO has the same hooks: rewards, advantages and entropy; its ratio is of sequences, so none is shown."""
    arguments = RLOOConfig(
        output_dir=str(tmp_path / "host"),
        **{**tiny_trl.DEFAULTS, **tiny_trl.QUIET, "max_steps": 2, "beta": 0.0},
    )
    trainer = RLOOTrainer(
        tiny_trl.model(),
        reward_funcs=list[Any]([score]),
        args=arguments,
        train_dataset=tiny_trl.prompts(),
        processing_class=tiny_trl.tokenizer(),
    )
    toolkit.watch(trainer, "minimal", tmp_path / "run", overrides=TOKENS)
    trainer.train()
    rows = journal(tmp_path / "run")
    equal(rows, "policy/entropy", logged(trainer, "entropy"))
    equal(rows, "rewards/total/mean", logged(trainer, "reward"))
    assert all("policy/logp_advantage_covariance" in row for row in rows.values())
    assert not any("policy/ratio_mean" in row for row in rows.values())


def rollouts(gap: float) -> Callable[..., dict[str, Any]]:
    """A rollout function of four tokens a completion, the third of them a tool's; its logprobs are off by `gap`."""

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        ids = trainer.processing_class(prompts, add_special_tokens=False)["input_ids"]
        completions = [[30 + number, 40, 50 + number, 1] for number, _ in enumerate(prompts)]
        with torch.no_grad():
            logprobs = [_logprobs(trainer, *pair) for pair in zip(ids, completions, strict=True)]
        return {
            "prompt_ids": ids,
            "completion_ids": completions,
            "logprobs": [[number - gap for number in row] for row in logprobs],
            "env_mask": [[1, 1, 0, 1] for _ in prompts],
        }

    return rollout


def _logprobs(trainer: Any, prompt: list[int], completion: list[int]) -> list[float]:
    ids = torch.tensor([prompt + completion])
    table = trainer.model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return [float(table[place, token]) for place, token in enumerate(completion)]


@pytest.mark.filterwarnings("ignore:.*rollout_func:UserWarning")  # TRL calls it experimental
def test_a_sampler_of_ones_own(tmp_path: Path) -> None:
    """What a rollout function says of its tokens: how far its logprobs are off, and which of them are not its own."""
    trainer = tiny_trl.trainer(tmp_path / "host", [score], max_steps=2, rollout_func=rollouts(gap=0.1))
    toolkit.watch(trainer, "minimal", tmp_path / "run", overrides=[*TOKENS, "metrics.sampler=true"])
    trainer.train()
    rows = journal(tmp_path / "run")
    equal(rows, "policy/entropy", logged(trainer, "entropy"))
    assert [row["completions/length_mean"] for row in rows.values()] == [3, 3]
    assert rows[1]["sampler/abs_logp_gap_mean"] == pytest.approx(0.1, abs=1e-4)


def test_generations_over_several_steps(tmp_path: Path) -> None:
    """Completions that serve two steps of two micro-batches are one rollout; each update has its own statistics."""
    trainer = tiny_trl.trainer(
        tmp_path,
        [score, at_least(4)],
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
    )
    recorder = Recorder()
    attach(trainer, Config(), None, lambda config, log_dir: Observer(Logger(()), [recorder], log_dir=log_dir))
    trainer.train()
    assert [event.step for event in recorder.events if event.rollout] == [1, 3]
    updates = [built(event.update) for event in recorder.events]
    assert [len(update.mask) for update in updates if update.mask is not None and update.old_logp is not None] == [
        8
    ] * 4
    assert [list(event.timings) for event in recorder.events] == [
        ["generation_s", "reward_s", "train_s"],
        ["train_s"],
    ] * 2
    assert recorder.ahead == [1, 2, 3, 4]


def test_rows_of_a_generation_over_several_steps_keep_their_order(tmp_path: Path) -> None:
    """TRL shuffles the rows before it splits them over steps: what is measured is what it logs."""
    trainer = tiny_trl.trainer(
        tmp_path,
        [score],
        steps_per_generation=2,
        num_iterations=2,
        epsilon=0.01,
    )
    toolkit.watch(trainer, "minimal", tmp_path / "run", overrides=TOKENS)
    trainer.train()
    rows = journal(tmp_path / "run")
    equal(rows, "policy/entropy", logged(trainer, "entropy"))
    equal(rows, "policy/clip_low", logged(trainer, "clip_ratio/low_mean"))
    equal(rows, "policy/clip_high", logged(trainer, "clip_ratio/high_mean"))
    assert rows[1]["rewards/total/mean"] == pytest.approx(logged(trainer, "reward")[1], abs=1e-5)
    assert max(row["policy/clip_high"] + row["policy/clip_low"] for row in rows.values()) > 0


def test_a_callback_of_ones_own(tmp_path: Path) -> None:
    """A callback that is given to the trainer and attached to it afterwards observes everything."""
    recorder = Recorder()
    callback = TRLCallback(Observer(Logger(()), [recorder]))
    trainer = tiny_trl.trainer(tmp_path, [score], max_steps=1, callbacks=[callback])
    callback.attach(trainer)
    trainer.train()
    (event,) = recorder.events
    assert np.asarray(built(event.rollout).rewards["score"]).mean() == pytest.approx(logged(trainer, "reward")[1])
    assert built(event.update).logp is not None


def test_the_settings_of_a_callback_are_its_observers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Held-out data is validated and schedules are followed, as with `watch`; another clip range is said."""
    settings = [*TOKENS, "metrics.drift=false", "layers.every=2", "validation.scorers=[format]"]
    heldout = HeldOut("sums", ["2 plus 2 is"], ["4"])
    observer = toolkit.observe("minimal", tmp_path / "run", overrides=settings, heldout=heldout)
    callback = TRLCallback(observer)
    trainer = tiny_trl.trainer(tmp_path, [score], max_steps=2, epsilon=0.1, callbacks=[callback])
    for _ in range(2):
        callback.attach(trainer)
    trainer.train()
    rows = journal(tmp_path / "run")
    assert [step for step, row in rows.items() if "layers/total/gradient_norm" in row] == [2]
    assert not any("kl_init" in key for row in rows.values() for key in row)
    assert sum("clips at (0.1, 0.1): set metrics.policy.clip_low=0.1" in said for said in caplog.messages) == 2
    assert [row.policy_step for row in history(tmp_path / "run").records() if row.stream == "heldout"] == [0, 2]


def test_a_callback_that_is_not_attached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without being attached it has the trainer's scalars, and says what is missing."""
    callback = TRLCallback(toolkit.observe("minimal", tmp_path / "run", overrides=QUIET))
    trainer = tiny_trl.trainer(tmp_path / "host", [score], max_steps=1, callbacks=[callback])
    trainer.train()
    (row,) = journal(tmp_path / "run").values()
    assert "trainer/reward" in row
    assert "rewards/total/mean" not in row
    assert [record.message for record in caplog.records if record.name == "toolkit"] == [
        "TRLCallback.attach(trainer) was not called: only what the trainer logs is observed"
    ]


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ({"loss": 1.0, "epoch": 0.5}, ["loss", "epoch"]),
        ({"eval_loss": 1.0, "eval_runtime": 2.0, "eval_reward": 3.0}, ["eval_loss", "eval_runtime", "eval_reward"]),
        ({"eval_a_runtime": 2.0, "eval_answer": 3.0, "epoch": 1}, ["eval_a_runtime", "eval_a_answer", "epoch"]),
        ({"train_runtime": 2.0, "eval_reward": 3.0}, ["train_runtime", "eval_reward"]),
    ],
)
def test_keys_of_an_evaluation(logs: dict[str, Any], expected: list[str]) -> None:
    """Keys get the name of the data set where the trainer's own have one, and no others change."""
    assert list(of_data_set(logs)) == expected


class Wanting:
    """Asks for a checkpoint at one step and to stop at another, and keeps what it is told."""

    def __init__(self, save: int, stop: int) -> None:
        self.wanted: dict[int, Request] = {save: Checkpoint("it looks good"), stop: Stop("it is over")}
        self.told: list[StartEvent | CheckpointEvent] = []

    def on_start(self, event: StartEvent) -> None:
        self.told.append(event)

    def on_step(self, event: StepEvent) -> None:
        if event.step in self.wanted:
            event.ask(self.wanted[event.step])

    def on_checkpoint(self, event: CheckpointEvent) -> None:
        self.told.append(event)


def test_what_callbacks_ask_for(tmp_path: Path) -> None:
    """The trainer saves when a callback asks for it, and stops; its own checkpoint at the end is told of too."""
    wanting = Wanting(save=2, stop=3)
    trainer = tiny_trl.trainer(tmp_path, [score], save_strategy="steps", save_steps=100)
    trainer.add_callback(TRLCallback(Observer(Logger(()), [wanting])))
    trainer.train()
    start, *saved = wanting.told
    assert isinstance(start, StartEvent)
    assert (start.step, start.total_steps) == (0, 4)
    assert trainer.state.global_step == 3
    told = [(event.step, event.path, event.why) for event in saved if isinstance(event, CheckpointEvent)]
    assert told[0] == (2, tmp_path / "checkpoint-2", "it looks good")
    assert all(Path(path).is_dir() for _, path, _ in told)


class Often:
    """Asks for a checkpoint after every step."""

    def on_step(self, event: StepEvent) -> None:
        event.ask(Checkpoint("it may be the last"))


def test_of_the_checkpoints_that_were_asked_for_some_are_kept(tmp_path: Path) -> None:
    """The newest `checkpoints.keep` of them stay, and all that the trainer would have saved anyway."""
    trainer = tiny_trl.trainer(tmp_path, [score], max_steps=7, save_strategy="steps", save_steps=3)
    settings = [*QUIET, "checkpoints=true", "checkpoints.keep=2"]
    toolkit.watch(trainer, "minimal", tmp_path / "run", overrides=settings, callbacks=[Often()])
    trainer.train()
    kept = {4, 5, *(3, 6, 7)}  # the trainer's own are every third and the last
    assert {int(path.name.removeprefix("checkpoint-")) for path in tmp_path.glob("checkpoint-*")} == kept
    index = json.loads((tmp_path / "run" / "checkpoints" / "index.json").read_text())
    assert {entry["step"] for entry in index["checkpoints"]} == kept


def test_a_limit_of_the_trainers_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the trainer deletes leaves the index, and that it may delete the best is said before the first step."""
    trainer = tiny_trl.trainer(tmp_path, [score], max_steps=4, save_strategy="steps", save_steps=1, save_total_limit=2)
    toolkit.watch(trainer, "minimal", tmp_path / "run", overrides=[*QUIET, "checkpoints=true"])
    trainer.train()
    index = json.loads((tmp_path / "run" / "checkpoints" / "index.json").read_text())
    assert [entry["step"] for entry in index["checkpoints"]] == [3, 4]
    assert sum("save_total_limit" in said for said in caplog.messages) == 1


def test_a_run_that_ended_asks_nothing_of_a_later_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The trainer that was stopped can be trained on, unobserved, and that is said."""
    trainer = tiny_trl.trainer(tmp_path, [score], max_steps=4)
    toolkit.watch(trainer, "minimal", tmp_path / "run", overrides=QUIET, callbacks=[Wanting(save=9, stop=2)])
    trainer.train()
    assert trainer.state.global_step == 2
    trainer.train()
    assert trainer.state.global_step == 4
    assert sum("call toolkit.watch before each" in said for said in caplog.messages) == 1
    caplog.clear()
    toolkit.watch(trainer, "minimal", tmp_path / "again", overrides=QUIET)
    trainer.train()
    assert [*journal(tmp_path / "again")] == [1, 2, 3, 4]
    assert [said for said in caplog.messages if "toolkit.watch" in said] == []


def test_what_a_broken_off_training_was_asked_is_forgotten(tmp_path: Path) -> None:
    """The next one of the same run goes on to its end."""

    def broken(completion_ids: list[list[int]], **_: Any) -> list[float]:
        if trainer.state.global_step == 2 and not failed:
            failed.append(True)
            raise RuntimeError("no reward")
        return score(completion_ids)

    failed: list[bool] = []
    trainer = tiny_trl.trainer(tmp_path, [broken], max_steps=4)
    observer = toolkit.watch(trainer, "minimal", tmp_path / "run", overrides=QUIET)
    with pytest.raises(RuntimeError, match="no reward"):
        trainer.train()
    observer.asks.add(Stop("it fell"))
    trainer.train()
    assert trainer.state.global_step == 4


def test_what_broke_off_and_was_closed_no_longer_looks(tmp_path: Path) -> None:
    """The trainer that is watched again has its own methods under the new observer's, and no others."""
    trainer = tiny_trl.trainer(tmp_path, [score], max_steps=1)
    own = trainer._compute_loss
    toolkit.watch(trainer, "minimal", tmp_path / "first", overrides=QUIET).close()
    assert trainer._compute_loss != own
    toolkit.watch(trainer, "minimal", tmp_path / "second", overrides=QUIET)
    trainer.train()
    assert trainer._compute_loss == own
    assert [*journal(tmp_path / "second")] == [1]


@pytest.mark.parametrize(("passes", "a_generation", "steps"), [(1, 1, 1), (2, 1, 2), (1, 4, 2), (2, 4, 4)])
def test_operations_of_a_generation_count_once(tmp_path: Path, passes: int, a_generation: int, steps: int) -> None:
    """However many steps train on it."""
    accumulated: dict[str, Any] = {
        "gradient_accumulation_steps": min(a_generation, 2),
        "steps_per_generation": a_generation,
    }
    trainer = tiny_trl.trainer(tmp_path, [score], num_iterations=passes, **accumulated)
    observer = toolkit.watch(trainer, "minimal", tmp_path / "run", overrides=QUIET)
    observer.close()
    compute = observer.config.metrics.compute
    assert (compute.passes, compute.steps) == (passes, steps)


def test_layers_of_any_trainer(tmp_path: Path) -> None:
    """Gradients and weights of what is trained have norms by layer, also of a plain trainer; the total is its own."""
    arguments = TrainingArguments(str(tmp_path / "host"), max_steps=2, logging_steps=1, max_grad_norm=0.0, **PLAIN)
    rows = [{"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}] * 8
    trainer = Trainer(tiny_trl.model(), arguments, train_dataset=rows)
    toolkit.watch(trainer, "minimal", tmp_path / "run", overrides=[*QUIET, "layers.every=1"])
    trainer.train()
    norms = {step: row["layers/total/gradient_norm"] for step, row in journal(tmp_path / "run").items()}
    assert norms == pytest.approx(logged(trainer, "grad_norm"), rel=1e-4)


def test_the_training_script(tmp_path: Path) -> None:
    """The script for users trains a tiny model from end to end, and its run is observed."""
    settings = [*SILENT, "sinks.tensorboard=false", *(f"metrics.{name}=false" for name in UNWANTED)]
    script("train_trl").main(["--run", str(tmp_path), "--steps", "1", "--tokens", "4", *settings])
    (row,) = [row for row in journal(tmp_path / "toolkit").values() if "rewards/formatted/mean" in row]
    assert {"rewards/correct/mean", "time/generation_s", "trainer/eval_reward"} <= row.keys()
