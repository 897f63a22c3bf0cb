"""`toolkit replay`: what a live run recorded gives the metrics that were logged live; and recordings of others."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import toolkit
from tests.callbacks import tiny_trl
from tests.callbacks.tiny_trl import journal, sometimes, vowels
from toolkit.errors import ConfigError
from toolkit.record import Histogram
from toolkit.replay import Format, replay
from toolkit.rollout import Rollout

QUIET = ["sinks.console=false", "sinks.tensorboard=false", "metrics.histograms.every=1"]
ROWS: list[dict[str, Any]] = [
    {"prompt": "1 + 1", "completion": "<answer>2</answer>", "correct": 1.0, "short": 0.5},
    {"prompt": "1 + 1", "completion": "<answer>3</answer>", "correct": 0.0, "short": None},
    {"prompt": "2 + 2", "completion": "4", "correct": 0.0, "short": 1.0},
    {"prompt": "2 + 2", "completion": "<answer>4</answer>", "correct": 1.0, "short": 0.0},
]


def numbers(run: Path, *families: str) -> dict[int, dict[str, float]]:
    """What the run logged of these families, by step; each count of a histogram is a number of its own."""
    found: dict[int, dict[str, float]] = {}
    for step, row in journal(run).items():
        for key, value in row.items():
            counts = value.counts.tolist() if isinstance(value, Histogram) else [value]
            if key.startswith(families):
                found.setdefault(step, {}).update({f"{key}#{n}" if n else key: x for n, x in enumerate(counts)})
    return found


def live(run: Path, rows: int = 100, max_characters: int = 10_000, weights: dict[str, float] | None = None) -> None:
    """A run of two steps that is observed, with all its completions as samples unless less is asked for."""
    overrides = [*QUIET, f"samples={{every: 1, rows: {rows}, max_characters: {max_characters}}}"]
    with toolkit.observe("grpo", run, overrides=overrides) as observer:
        for step in range(2):
            rewards: Any = {name: [row[name] for row in ROWS] for name in ("correct", "short")}
            texts: Any = {f"{name}s": [str(row[name]) for row in ROWS] for name in ("prompt", "completion")}
            advantages = np.array([1.0, -1.0, -1.0, 1.0], np.float32) * (step + 1)
            rollout = Rollout(rewards=rewards, weights=weights, group_size=2, advantages=advantages, **texts)
            observer.step(step, rollout)


def mapping(tmp_path: Path, text: str) -> Path:
    """A YAML file for `--fields`."""
    path = tmp_path / "fields.yaml"
    path.write_text(text)
    return path


def recorded(tmp_path: Path, rows: list[dict[str, Any]], name: str = "1.jsonl") -> Path:
    """A JSONL file."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


FAMILIES = ("rewards/", "groups/", "advantages/", "completions/", "format/")


def test_our_own_samples_give_what_was_logged_live(tmp_path: Path) -> None:
    """Where all rows were kept, every value of rewards, groups, advantages and format is the same number."""
    live(tmp_path / "live", weights={"correct": 2.0, "short": 0.5})
    fields = mapping(tmp_path, "weights: {correct: 2.0, short: 0.5}")
    assert replay(tmp_path / "live", tmp_path / "again", fields=fields, overrides=QUIET) == 2
    ours, theirs = (numbers(tmp_path / run, *FAMILIES) for run in ("again", "live"))
    assert ours.keys() == theirs.keys()
    for step, row in theirs.items():
        assert ours[step] == pytest.approx(row, abs=1e-6)
    assert len(theirs[0]) > 60
    assert theirs[0]["rewards/total/max"] == 2.25


def test_of_chosen_samples_groups_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where as many rows were kept as may be, that is said once, and groups come back only by an override."""
    live(tmp_path / "live", rows=2)
    assert "groups/mean" in journal(tmp_path / "live")[0]
    replay(tmp_path / "live", tmp_path / "again", overrides=QUIET)
    assert caplog.text.count("its 2 completions of a step may be chosen ones") == 1
    found = journal(tmp_path / "again")[0]
    assert {"rewards/correct/mean", "format/answer_present"} <= found.keys()
    assert not [key for key in found if key.startswith(("groups/", "completions/"))]
    replay(tmp_path / "live", tmp_path / "all", overrides=[*QUIET, "metrics.groups=true"])
    assert "groups/mean" in journal(tmp_path / "all")[0]


def test_samples_without_their_configuration_may_be_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A journal that was taken out of its run does not say whether it has all rows, so groups are left out."""
    live(tmp_path / "live")
    (tmp_path / "live" / "config.yaml").unlink()
    replay(tmp_path / "live", tmp_path / "again", overrides=QUIET)
    assert "Left out unless an override switches it on: groups, text" in caplog.text
    assert "groups/mean" not in journal(tmp_path / "again")[0]


def test_of_cut_samples_what_reads_texts_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Completions without their middle give no format; rewards and groups are those of the live run."""
    live(tmp_path / "live", max_characters=10)
    assert journal(tmp_path / "live")[0]["format/answer_present"] == 0.75
    replay(tmp_path / "live", tmp_path / "again", overrides=QUIET)
    assert "the completion was cut. Left out unless an override switches it on: format, task, text" in caplog.text
    ours, theirs = (numbers(tmp_path / run, *FAMILIES) for run in ("again", "live"))
    assert not [key for key in ours[0] if key.startswith("format/")]
    assert ours[0] == pytest.approx({key: theirs[0][key] for key in ours[0]}, abs=1e-6)
    assert "groups/mean" in ours[0]


def watched(tmp_path: Path, **settings: Any) -> None:
    """A training of TRL's in `host` that writes its completions and is observed in `live`."""
    trainer = tiny_trl.trainer(tmp_path / "host", [vowels, sometimes], log_completions=True, **settings)
    toolkit.watch(trainer, "grpo", tmp_path / "live", overrides=QUIET)
    trainer.train()


@pytest.mark.filterwarnings(*tiny_trl.WARNINGS)
def test_what_trl_recorded_gives_what_was_logged_live(tmp_path: Path) -> None:
    """Of a watched training of TRL's, its completions_*.parquet give the rewards, groups, advantages and format."""
    watched(tmp_path, max_steps=2, reward_weights=[2.0, 0.5])
    fields = mapping(tmp_path, "weights: {vowels: 2.0, sometimes: 0.5}")
    assert replay(tmp_path / "host" / "completions", tmp_path / "again", fields=fields, overrides=QUIET) == 2
    families = ("rewards/", "groups/", "advantages/", "format/")
    ours, theirs = (numbers(tmp_path / run, *families) for run in ("again", "live"))
    for step, row in ours.items():
        assert row == pytest.approx({key: theirs[step][key] for key in row}, abs=1e-5)
        lost = {key for key in theirs[step] if key not in row}  # what needs a clock or tokens
        assert lost <= {key for key in lost if "latency" in key or "token" in key}
    assert len(ours[1]) > 60


@pytest.mark.filterwarnings(*tiny_trl.WARNINGS)
def test_a_generation_that_trl_trains_on_twice_is_one_step(tmp_path: Path) -> None:
    """With two updates a generation, its files repeat it; replayed is the step at which it was new, as live."""
    watched(tmp_path, max_steps=4, num_iterations=2)
    assert replay(tmp_path / "host" / "completions", tmp_path / "again", overrides=QUIET) == 2
    families = ("rewards/", "groups/", "advantages/", "format/")
    ours, theirs = (numbers(tmp_path / run, *families) for run in ("again", "live"))
    assert list(ours) == [1, 3]
    assert [step for step, row in theirs.items() if "rewards/total/mean" in row] == [1, 3]
    for step, row in ours.items():
        assert row == pytest.approx({key: theirs[step][key] for key in row}, abs=1e-5)


@pytest.mark.filterwarnings(*tiny_trl.WARNINGS)
def test_completions_of_an_evaluation_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where a checkpoint tells of evaluations, the files they wrote over are no steps; without it that is said."""
    evaluation = {"eval_strategy": "steps", "eval_steps": 2, "eval_on_start": True, "per_device_eval_batch_size": 8}
    watched(tmp_path, max_steps=4, save_strategy="steps", save_steps=4, **evaluation)
    completions = tmp_path / "host" / "completions"
    assert len(list(completions.iterdir())) == 5
    replay(completions, tmp_path / "again", overrides=QUIET)
    ours, theirs = (numbers(tmp_path / run, "groups/", "advantages/") for run in ("again", "live"))
    assert list(ours) == [1, 3]
    for step, row in ours.items():
        assert row == pytest.approx({key: theirs[step][key] for key in row}, abs=1e-5)
    assert "left out 3 files that hold completions of an evaluation" in caplog.text
    assert "tells of evaluations" not in caplog.text
    (tmp_path / "host" / "checkpoint-4").rename(tmp_path / "elsewhere")
    assert replay(completions, tmp_path / "unknown", overrides=QUIET) == 4
    assert "no ../checkpoint-*/trainer_state.json tells of evaluations after step 0: if" in caplog.text
    recorded(tmp_path, [], "host/checkpoint-5/trainer_state.json")
    with pytest.raises(
        ConfigError, match=r"trainer_state\.json: expected the state of a trainer: .*Move this checkpoint"
    ):
        replay(completions, tmp_path / "broken", overrides=QUIET)


def test_rollouts_of_verl(tmp_path: Path) -> None:
    """A file a step, in the order of their numbers, with `score` as the reward and the prompt as the group."""
    for step in (2, 10):
        rows = [
            {"input": row["prompt"], "output": row["completion"], "gts": "2", "score": row["correct"], "step": step}
            for row in ROWS
        ]
        recorded(tmp_path / "verl", rows, f"{step}.jsonl")
    assert replay(tmp_path / "verl", tmp_path / "run", overrides=QUIET) == 2
    found = numbers(tmp_path / "run", *FAMILIES)
    assert list(found) == [2, 10]
    assert found[2]["rewards/score/mean"] == 0.5
    assert found[2]["groups/zero_std_fraction"] == 0.0
    assert found[2]["format/answer_present"] == 0.75


def trace(row: dict[str, Any], tokens: int) -> dict[str, Any]:
    """A trace as prime-rl writes it."""
    said = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
    masks = [[False] * 3, [True] * tokens]
    return {
        "task": {"type": "Sum", "data": {}, "key": row["prompt"]},
        "nodes": [{"message": message, "mask": mask} for message, mask in zip(said, masks, strict=True)],
        "rewards": {
            "correct": {"score": row["correct"], "weight": 2.0},
            "short": row["short"] and {"score": row["short"], "weight": 4.0},
        },
    }


def test_traces_of_prime_rl(tmp_path: Path) -> None:
    """The step is in the path; rewards have weights and may be null, and the sampled tokens give the lengths."""
    rows = [trace(row, tokens) for tokens, row in enumerate([*ROWS[1:], ROWS[0]], 1)]
    recorded(tmp_path / "prime" / "step_7", rows, "traces.jsonl")
    replay(tmp_path / "prime", tmp_path / "run", overrides=QUIET)
    found = numbers(tmp_path / "run", *FAMILIES)[7]
    assert found["rewards/correct/mean"] == 0.5
    assert found["rewards/short/coverage"] == 0.75
    assert found["rewards/total/mean"] == 2.5
    assert found["completions/length_mean"] == 2.5
    assert found["format/answer_present"] == 0.75


def test_fields_are_named_in_yaml(tmp_path: Path) -> None:
    """A recording of any tool is read by the names of its fields, also inner ones, with groups in consecutive rows."""
    rows = [
        {"n": 3, "ask": f"{number} {row['prompt']}", "out": {"text": row["completion"]}, "r": {"a": row["correct"]}}
        for number, row in enumerate(ROWS)
    ]
    fields = mapping(tmp_path, "{step: n, prompt: ask, completion: out.text, rewards: [r.a], group_size: 2}")
    replay(recorded(tmp_path, rows), tmp_path / "run", Format.TRL, fields, overrides=QUIET)
    found = numbers(tmp_path / "run", *FAMILIES)[3]
    assert found["rewards/a/mean"] == 0.5
    assert found["groups/mean"] == 0.5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            '{"output": "4", "step": 1, "score": 1}',
            r"1\.jsonl, line 2: no field 'input' for the prompt; it has output,",
        ),
        ('{"input": "a", "output": "4", "step": 1}', r"line 2: no field 'score' for a reward; .* name it in --fields"),
        ('{"input": "a", "output": "4", "step": 1, "score": "high"}', r"line 2: 'score' is 'high': expected a number"),
        ('{"input": "a", ', r"1\.jsonl, line 2: is not JSON"),
        ("[1]", r"1\.jsonl, line 2: expected an object with columns, got a list"),
    ],
)
def test_an_error_names_the_file_the_line_and_the_field(tmp_path: Path, line: str, said: str) -> None:
    """What is wrong stands in the message, with what there is instead."""
    path = tmp_path / "1.jsonl"
    path.write_text(json.dumps({"input": "a", "output": "b", "step": 1, "score": 0.5}) + "\n" + line + "\n")
    with pytest.raises(ConfigError, match=said):
        replay(path, tmp_path / "run", overrides=QUIET)


def test_rewards_that_come_and_go_are_an_error(tmp_path: Path) -> None:
    """Within a step each row has the same rewards; the message names both rows."""
    rows = [{**ROWS[0], "step": 1}, {"prompt": "a", "completion": "b", "step": 1, "other": 1.0}]
    with pytest.raises(ConfigError, match=r"line 2: rewards are other, but those of .*line 1 are correct, short"):
        replay(recorded(tmp_path, rows), tmp_path / "run", overrides=QUIET)


def test_wrong_places_are_named(tmp_path: Path) -> None:
    """No recording, a run that is there, a YAML file of something else: each says what was expected."""
    with pytest.raises(
        ConfigError, match=r"no recording: expected a file, or a directory with completions_\*\.parquet"
    ):
        replay(tmp_path, tmp_path / "run")
    live(tmp_path / "live")
    with pytest.raises(ConfigError, match="has a run already: give another --log-dir"):
        replay(tmp_path / "live", tmp_path / "live")
    with pytest.raises(ConfigError, match=r"fields\.yaml: expected names of fields \(step, prompt, completion"):
        replay(tmp_path / "live", tmp_path / "run", fields=mapping(tmp_path, "promt: input"))
    with pytest.raises(
        ConfigError, match="step 0, row 1: weights are of corect, but the rewards are correct, short: see"
    ):
        replay(tmp_path / "live", tmp_path / "run", fields=mapping(tmp_path, "weights: {corect: 2.0}"))


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    """It ends with the number of steps, or with an error for people and code 2."""
    path = recorded(tmp_path, [{**row, "step": 1} for row in ROWS])
    command = [sys.executable, "-c", "from toolkit.cli import app; app()", "replay", str(path), "--log-dir"]
    minimal = ["--config", "minimal", "sinks.console=false"]
    done = subprocess.run([*command, str(tmp_path / "run"), *minimal], capture_output=True, text=True, check=True)
    assert done.stdout == f"1 steps of {path} are in {tmp_path / 'run'}\n"
    again = subprocess.run([*command, str(tmp_path / "run"), *minimal], capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert again.stderr == f"error: {tmp_path / 'run'} has a run already: give another --log-dir\n"
