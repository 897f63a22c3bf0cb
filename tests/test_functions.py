"""The function-style face as a script uses it: before and after `initialize`, with a plan, and with bad input."""

import csv
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import toolkit
from toolkit import api
from toolkit.record import Record, Table
from toolkit.sinks import jsonl
from toolkit.validation.heldout import HeldOut

PLAN = Path(__file__).parent / "lines" / "plan.yaml"
QUIET = ["sinks.console=false", "sinks.tensorboard=false"]
SUMS = HeldOut("sums", ["1+1=", "2+2="], ["2", "4"])
OUTPUT = "<reasoning>\n2+2=4\n</reasoning>\n<answer>\n4\n</answer>"


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Each test has a process without a run."""
    yield
    api.close()


def begin(log_dir: Path, *overrides: str, heldout: HeldOut | Sequence[HeldOut] | None = None) -> None:
    api.initialize(log_dir=log_dir, overrides=[*QUIET, *overrides], heldout=heldout)


def records(log_dir: Path, stream: str = "train") -> list[Record]:
    api.close()
    files = (log_dir / "metrics.jsonl", log_dir / "samples" / "completions.jsonl")
    return [record for path in files for record in jsonl.read(path) if record.stream == stream]


def values(log_dir: Path, stream: str = "train") -> dict[str, object]:
    """The newest value of each key."""
    return {key: value for record in records(log_dir, stream) for key, value in record.values.items()}


def log_lines(log_dir: Path) -> list[str]:
    api.close()
    return (log_dir / "logs" / "training.log").read_text().splitlines()


def test_each_getter_is_a_standard_logger(tmp_path: Path) -> None:
    """They have the names that a section configures, and their lines are in the run's log."""
    begin(tmp_path)
    getters = {
        "training": api.get_training_logger,
        "model_outputs": api.get_model_logger,
        "rewards": api.get_reward_logger,
        "system": api.get_system_logger,
        "metrics": api.get_metrics_logger,
    }
    for name, getter in getters.items():
        assert getter() is logging.getLogger(name)
        getter().info("from %s", name)
    text = "\n".join(log_lines(tmp_path))
    assert all(f"{name} - INFO - from {name}" in text for name in getters)


def test_what_is_logged_before_initialize_goes_where_everything_goes(tmp_path: Path) -> None:
    """Lines and rows of every kind are there, in order, and with the time at which they were logged."""
    api.get_training_logger().info("first")
    api.get_training_logger().debug("not of interest")
    api.log_training_progress(3, {"loss": 0.5})
    api.log_model_output("2+2?", "4", OUTPUT)
    api.log_reward("correct", [1.0, 0.0])
    api.get_training_logger().info("second")
    logged = time.time()
    time.sleep(0.05)
    begin(tmp_path)
    api.get_training_logger().info("third")
    train = records(tmp_path)
    assert train[0].values == {"trainer/loss": 0.5}
    assert train[1].values["rewards/correct/mean"] == 0.5
    assert [record.step for record in train] == [3, 3]
    assert all(record.time <= logged for record in train)
    assert [line.split(" - ")[3] for line in log_lines(tmp_path) if "training" in line and "step" not in line] == [
        "first",
        "second",
        "third",
    ]


def test_lines_of_threads_during_initialize_are_all_there(tmp_path: Path) -> None:
    """A thread that logs all the while loses no line and gets none twice."""
    logger = api.get_training_logger()
    over = threading.Event()
    count = 0

    def log() -> None:
        nonlocal count
        while not over.is_set():
            logger.info("%d", count)
            count += 1
            time.sleep(0.0002)

    thread = threading.Thread(target=log)
    thread.start()
    begin(tmp_path)
    over.set()
    thread.join()
    found = [int(line.split(" - ")[3]) for line in log_lines(tmp_path)]
    assert sorted(found) == list(range(count))


def test_progress_is_a_step_of_the_run(tmp_path: Path) -> None:
    """The scalars are the trainer's, and from the second step on there is the time of a step."""
    begin(tmp_path)
    api.log_training_progress(0, {"loss": np.float32(1.0)})
    api.log_training_progress(1, {"loss": jnp.float32(0.5), "deep": {"lr": 0.1}})
    first, second = records(tmp_path)
    assert first.values == {"trainer/loss": 1.0}
    assert second.values["trainer/deep/lr"] == 0.1
    assert isinstance(second.values["time/step_s"], float)


def test_a_model_output_is_a_table_split_into_its_parts(tmp_path: Path) -> None:
    """Answer and reasoning come from the tags, a given reasoning wins, and columns of one's own are kept."""
    begin(tmp_path)
    api.log_training_progress(7, {})
    api.log_model_output("2+2?", "4", OUTPUT, copy_of_true_answer="4")
    api.log_model_output("2+2?", "4", OUTPUT, reasoning="given", score=0.5)
    tables = [(record.step, record.values["model_outputs"]) for record in records(tmp_path, "samples")]
    rows = [dict(zip(table.columns, table.rows[0], strict=True)) for _, table in tables if isinstance(table, Table)]
    assert [step for step, _ in tables] == [7, 7]
    assert rows[0] == {
        "question": "2+2?",
        "true_answer": "4",
        "model_answer": "4",
        "model_reasoning": "2+2=4",
        "model_output": OUTPUT,
        "copy_of_true_answer": "4",
    }
    assert (rows[1]["model_reasoning"], rows[1]["score"]) == ("given", 0.5)


def test_rewards_have_statistics_history_and_correlations(tmp_path: Path) -> None:
    """NumPy, JAX and lists with None are vectors; the window of the call, not that of the settings, is looked at."""
    begin(tmp_path)
    for step, correct in enumerate(([0.0, 0.0], [1.0, 0.0], [1.0, 1.0])):
        rewards = {"correct": np.array(correct), "short": jnp.array([0.0, 1.0]), "rare": [None, 1.0]}
        api.log_reward_metrics(step, rewards, history_window=2)
    last = records(tmp_path)[-1].values
    assert (last["rewards/correct/mean"], last["rewards/total/mean"], last["rewards/rare/coverage"]) == (1.0, 2.0, 0.5)
    assert last["rewards/correct/moving_average"] == pytest.approx(0.75)
    assert last["rewards/correct/trend"] == pytest.approx(0.5)
    assert records(tmp_path)[1].values["rewards/correlation/correct~short"] == pytest.approx(-1.0)


def test_rewards_of_torch_are_read(tmp_path: Path) -> None:
    """In bfloat16 too, which NumPy does not know; what changes in place afterwards is logged as it was."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    reward = torch.tensor([0.5, 1.5], dtype=torch.bfloat16)
    begin(tmp_path)
    api.log_reward_metrics(0, {"correct": reward})
    reward += 1
    assert values(tmp_path)["rewards/correct/mean"] == 1.0


def test_a_reward_and_what_was_rewarded(tmp_path: Path) -> None:
    """The statistics of one function have no total, and the samples stand beside their values."""
    begin(tmp_path)
    api.log_reward("correct", [1.0, 0.0, None], samples=["a", "b", "c"])
    found = values(tmp_path)
    assert found["rewards/correct/mean"] == 0.5
    assert not [key for key in found if "total" in key]
    assert values(tmp_path, "samples")["rewards/correct/samples"] == Table(
        ("sample", "reward"), [["a", 1.0], ["b", 0.0], ["c", None]]
    )


def test_generations_are_measured_as_a_whole(tmp_path: Path) -> None:
    """Lengths, diversity and format of all of them, and correctness where there are references."""
    begin(tmp_path)
    api.log_generation_metrics(1, [OUTPUT, OUTPUT], ["4", "5"])
    found = values(tmp_path)
    assert found["completions/bytes_mean"] == len(OUTPUT)
    assert (found["completions/unique_fraction"], found["format/strict"]) == (0.5, 1.0)
    assert found["task/answer_correct"] == 0.5


def test_what_is_switched_off_is_not_logged_by_a_call_either(tmp_path: Path) -> None:
    """The switches of the configuration hold for the functions too."""
    begin(tmp_path, "metrics.rewards=false", "metrics.memory=false", "metrics.task=false", "metrics.format=false")
    api.log_reward_metrics(0, {"correct": [1.0]})
    api.log_memory_usage()
    api.log_generation_metrics(0, ["a"], ["a"])
    assert {key.partition("/")[0] for key in values(tmp_path)} == {"completions"}
    assert not [key for key in values(tmp_path, "system") if key.startswith("memory/")]


def test_memory_is_that_of_the_last_step(tmp_path: Path) -> None:
    """Resident bytes of this process, in the system stream."""
    begin(tmp_path, "metrics.observer=false")
    api.log_reward_metrics(5, {"a": [1.0]})
    api.log_memory_usage()
    (record,) = [record for record in records(tmp_path, "system") if "memory/host_rss_bytes" in record.values]
    assert record.step == 5
    assert record.values["memory/host_rss_bytes"] > 1e6  # type: ignore[operator]  # it is a float


def test_a_function_is_validated_now(tmp_path: Path) -> None:
    """The report comes back, and is logged at its step in the stream of held-out results."""
    begin(tmp_path, heldout=SUMS)
    report = api.run_validation(5, lambda prompts: ["<answer>2</answer>" for _ in prompts])
    assert report is not None
    assert report.estimates["accuracy"].mean == 0.5
    (record,) = records(tmp_path, "heldout")
    assert (record.policy_step, record.values["heldout/sums/accuracy"]) == (5, 0.5)


def test_as_many_problems_as_are_asked_for(tmp_path: Path) -> None:
    """`num_samples` wins over the settings, which say one here."""
    asked: list[int] = []

    def answers(prompts: Sequence[str]) -> list[str]:
        asked.append(len(prompts))
        return list(prompts)

    begin(tmp_path, "validation.max_samples=1", heldout=SUMS)
    api.run_validation(0, answers)
    api.run_validation(0, answers, num_samples=2)
    assert asked == [1, 2]


def test_nothing_raises_into_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is passed, each kind of trouble is said once, and the run goes on."""
    begin(tmp_path)
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        api.log_training_progress("three", {"loss": 1})  # type: ignore[arg-type]  # wrong on purpose
        api.log_reward_metrics(0, {"a": [1.0], "b": [1.0, 2.0]})
        api.log_reward_metrics(0, None)  # type: ignore[arg-type]  # wrong on purpose
        api.log_generation_metrics(0, None)  # type: ignore[arg-type]  # wrong on purpose
        api.log_reward("a", 3)
        assert api.run_validation(0, lambda prompts: prompts) is None
        assert api.run_validation(0, object()) is None
        api.log_training_progress(1, {"loss": 1.0})
        assert values(tmp_path)["trainer/loss"] == 1.0
    text = "\n".join(caplog.messages)
    assert "there are no held-out problems" in text
    assert "rewards['b'] has 2 rows" in text


def test_a_model_without_its_tokenizer_is_explained(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be asked is no error of the training, and the log says what was expected."""

    class Model:
        def generate(self) -> None: ...

    begin(tmp_path, heldout=SUMS)
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        assert api.run_validation(0, Model()) is None
    assert any("with its tokenizer" in message for message in caplog.messages)


def test_initialize_again_with_the_same_is_nothing_and_with_others_an_error(tmp_path: Path) -> None:
    """The error names the run; after `close` another one may begin."""
    first = api.initialize(log_dir=tmp_path / "a", overrides=QUIET)
    assert api.initialize(log_dir=tmp_path / "a", overrides=QUIET) is first
    assert api.initialize(overrides=QUIET) is first
    for log_dir, overrides in ((tmp_path / "b", QUIET), (tmp_path / "a", QUIET[:1])):
        with pytest.raises(toolkit.ToolkitError, match=r"there is a run in .*a' already, with other settings"):
            api.initialize(log_dir=log_dir, overrides=overrides)
    api.close()
    assert api.initialize(log_dir=tmp_path / "b", overrides=QUIET) is not first


def test_a_configuration_that_cannot_work_leaves_what_was_kept(tmp_path: Path) -> None:
    """A failed initialize is an error before training, and the next one gets all that was logged."""
    api.get_training_logger().info("kept")
    with pytest.raises(toolkit.ConfigError, match="did you mean 'file'"):
        begin(tmp_path, "logging.loggers.training.handlers=[flie]")
    begin(tmp_path)
    assert [line.split(" - ")[3] for line in log_lines(tmp_path)] == ["kept"]


def test_a_whole_plan_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own file alone: text, JSON, CSV and TensorBoard files have what it says, and its problems are asked."""
    monkeypatch.chdir(tmp_path)
    rows = [
        {"question": question, "answer": answer} for question, answer in zip(SUMS.prompts, SUMS.references, strict=True)
    ]
    Path("heldout.json").write_text(json.dumps(rows))
    api.initialize(PLAN, log_dir="run")
    logging.getLogger("whitelist").debug("allowed: x")
    for step in range(11):
        api.log_training_progress(step, {"loss": 0.5})
    api.log_model_output("2+2?", "4", OUTPUT)
    assert api.run_validation(10, lambda prompts: list(prompts)) is not None
    api.close()
    logs = Path("run") / "logs"
    assert "whitelist | DEBUG | allowed: x" in (logs / "all.log").read_text()
    assert "training | INFO | step 10 loss=0.5" in (logs / "all.log").read_text()
    objects = [json.loads(line) for line in (logs / "all.jsonl").read_text().splitlines()]
    assert {"metrics", "model_outputs"} <= {entry["name"] for entry in objects}
    with (logs / "outputs.csv").open(newline="") as file:
        outputs = [row for row in csv.DictReader(file) if row["question"] == "2+2?"]
    assert (outputs[0]["true_answer"], outputs[0]["model_answer"], outputs[0]["model_reasoning"]) == ("4", "4", "2+2=4")
    shown = EventAccumulator(str(logs / "tensorboard"))
    shown.Reload()
    assert [event.step for event in shown.Scalars("trainer/loss")] == list(range(11))
    assert [event.step for event in shown.Scalars("heldout/heldout/accuracy")] == [10]


def test_problems_that_are_not_there_yet_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run begins all the same, and validates once the file is there."""
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING, logger="toolkit"):
        begin(tmp_path / "run", "validation.data=late.jsonl")
        assert any("late.jsonl is not there" in message for message in caplog.messages)
        assert api.run_validation(0, lambda prompts: list(prompts)) is None
    Path("late.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    report = api.run_validation(1, lambda prompts: ["<answer>2</answer>"])
    assert report is not None
    assert report.dataset == "late"


def test_several_data_sets_are_validated_one_after_the_other(tmp_path: Path) -> None:
    """Each has its row, the last one's report is returned with the means over all, and fewer problems can be asked."""
    begin(tmp_path / "run", heldout=[SUMS, HeldOut("more", ["5+5=", "6+6="], ["10", "12"])])
    report = api.run_validation(3, lambda prompts: ["<answer>10</answer>"] * len(prompts))
    one = api.run_validation(4, lambda prompts: ["<answer>10</answer>"] * len(prompts), num_samples=1)
    assert report is not None
    assert one is not None
    assert (report.dataset, report.macro["accuracy"], len(one.prompts)) == ("more", 0.25, 1)
    assert [record.step for record in records(tmp_path / "run", "heldout")] == [3, 3, 4, 4]


def ran(code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_without_initialize_what_was_kept_is_said_at_the_end() -> None:
    """A count, and each line of a warning or worse; nothing is printed before."""
    done = ran(
        "import sys; from toolkit import api; log = api.get_training_logger()\n"
        "log.info('quiet'); log.error('loud %d', 1)\n"
        "api.log_training_progress(0, {'loss': 1.0}); print('over', file=sys.stderr)"
    )
    assert done.returncode == 0
    over, count, loud = done.stderr.splitlines()
    assert over == "over"
    assert "2 lines and 1 rows were logged without an initialize" in count
    assert loud == "ERROR training: loud 1"


def test_a_script_without_close_loses_nothing_at_sigterm(tmp_path: Path) -> None:
    """A scheduler ends it: lines and rows are there, those from before `initialize` too."""
    done = ran(
        "import os, signal; from toolkit import api; api.get_training_logger().info('early')\n"
        f"api.initialize(log_dir={str(tmp_path)!r}, overrides={QUIET!r})\n"
        "api.log_training_progress(0, {'loss': 1.0})\n"
        "api.get_training_logger().info('late'); os.kill(os.getpid(), signal.SIGTERM)"
    )
    assert done.returncode == -15, done.stderr
    lines = [line.split(" - ")[3] for line in (tmp_path / "logs" / "training.log").read_text().splitlines()]
    assert {"early", "late", "step 0 loss=1"} <= set(lines)
    assert values(tmp_path)["trainer/loss"] == 1.0
