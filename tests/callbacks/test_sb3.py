"""The callbacks for stable-baselines3 on a real model: what they log and keep, and that training does not notice."""

import json
import random
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecNormalize

import toolkit
from tests.scripts import script
from toolkit.record import Artifact, Record, Video
from toolkit.sinks.jsonl import read

QUIET = ["sinks.console=false", "sinks.tensorboard=false"]
OFTEN = [
    "sb3.metrics.every=256",
    "sb3.evaluation={every: 512, episodes: 3}",
    "sb3.checkpoints={every: 256, keep: 2}",
    "sb3.video={every: 1024, max_frames: 6}",
]
STEPS = 1024


class Log(KVWriter):
    """A format of the user's own."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.rows[step] = dict(key_values)

    def close(self) -> None:
        pass


class Trained(NamedTuple):
    """A trained model, what its own logger was given, the directory of its run, and the states of the generators."""

    model: PPO
    log: Log
    run: Path
    generators: tuple[Any, ...]


class Unregistered(gymnasium.Env[np.ndarray, Any]):
    """An environment that gymnasium does not know by name and that renders nothing."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.25, True, False, {}


class Scripted(Unregistered):
    """Gives each evaluation, which begins with a seed, its own return."""

    def __init__(self, *returns: float) -> None:
        self.returns = list(returns)
        self.now = 0.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            self.now = self.returns.pop(0)
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), self.now, True, False, {}


def trained(run: Path | None) -> Trained:
    """PPO on the script's corridor, with the callbacks of an experiment in `run`, or without any."""
    model, log = script("train_sb3").agent(), Log()
    model.set_logger(Logger(None, [log]))
    if run is None:
        model.learn(STEPS)
    else:
        with toolkit.Experiment("grpo", run, [*QUIET, *OFTEN]) as experiment:
            model.learn(STEPS, callback=experiment.get_callbacks())
    generators = (
        torch.get_rng_state().tolist(),
        np.random.get_state(legacy=False)["state"]["key"].tolist(),
        random.getstate(),
    )
    return Trained(model, log, run or Path(), generators)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The training with all callbacks."""
    return trained(tmp_path_factory.mktemp("sb3"))


def rows(run: Path, stream: str, key: str) -> dict[int, Record]:
    """The records of a stream that have a key, by step."""
    found = [record for record in read(run / "metrics.jsonl") if record.stream == stream]
    return {record.step: record for record in found if key in record.values}


def test_training_is_bit_identical(watched: Trained) -> None:
    """Losses, weights and the global generators are the same with all the callbacks and without."""
    alone = trained(None)
    assert watched.generators == alone.generators
    losses = [[row.get("train/loss") for row in run.log.rows.values()] for run in (watched, alone)]
    assert losses[0] == losses[1]
    ours, theirs = (run.model.policy.state_dict() for run in (watched, alone))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_the_model_s_own_log_is_chained(watched: Trained) -> None:
    """Its numbers stand under `trainer/` at its steps; its own formats still get them, and stay as they were."""
    found = rows(watched.run, "train", "trainer/rollout/ep_rew_mean")
    assert {step: row.values["trainer/rollout/ep_rew_mean"] for step, row in found.items()} == pytest.approx(
        {step: row["rollout/ep_rew_mean"] for step, row in watched.log.rows.items()}
    )
    assert watched.model.logger.output_formats == [watched.log]


def test_every_episode_is_counted_once(watched: Trained) -> None:
    """The lengths of the episodes that the rows aggregate are those that the model's own monitor has seen."""
    found = rows(watched.run, "train", "batch/return/mean")
    assert list(found) == [256, 512, 768, 1024]
    rates = [row.values["batch/success/success_rate"] for row in found.values()]
    assert all(isinstance(rate, float) and rate <= 1 for rate in rates)
    assert watched.model.ep_info_buffer is not None
    lengths = [info["l"] for info in watched.model.ep_info_buffer]
    longest = found[1024].values["batch/length/max"]
    assert isinstance(longest, float)
    assert longest <= max(lengths)


def test_an_evaluation_plays_the_same_episodes_each_time(watched: Trained) -> None:
    """It has mean, error and length of as many episodes as are configured, and a seed repeats it to the last digit."""
    found = rows(watched.run, "heldout", "heldout/episodes/return")
    assert list(found) == [512, 1024]
    env = gymnasium.make("Corridor-v0")
    lengths = []
    seen, _ = env.reset(seed=0)
    for _ in range(3):
        done, length = False, 0
        while not done:
            action, _ = watched.model.predict(seen, deterministic=True)
            seen, _, ended, cut, _ = env.step(int(action))
            done, length = ended or cut, length + 1
        lengths.append(length)
        seen, _ = env.reset()
    assert found[1024].values["heldout/episodes/length"] == pytest.approx(np.mean(lengths))


def test_checkpoints_are_kept_and_load(watched: Trained) -> None:
    """The newest two are there, and the last is the model as it was at that step."""
    paths = sorted((watched.run / "checkpoints").iterdir())
    assert [path.name for path in paths] == ["sb3_0000000768.zip", "sb3_0000001024.zip"]
    assert PPO.load(paths[-1], device="cpu").num_timesteps == 1024


def test_what_an_earlier_training_left_is_the_older_one(tmp_path: Path) -> None:
    """A training that begins again in the directory keeps its own checkpoints, though their steps are lower."""
    script("train_sb3")
    env = VecNormalize(make_vec_env("Corridor-v0"))
    for steps in (1024, 512):
        with toolkit.Experiment("grpo", tmp_path, [*QUIET, *OFTEN]) as experiment:
            model = PPO("MlpPolicy", env, n_steps=128, batch_size=64, seed=0, device="cpu")
            model.learn(steps, callback=experiment.get_callbacks())
    names = [f"sb3_0000000{step}.{kind}" for step in (256, 512) for kind in ("pkl", "zip")]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == names


def test_the_best_model_is_an_artifact(watched: Trained) -> None:
    """`best_model` has the return and the step of the best evaluation, and can be loaded."""
    found = rows(watched.run, "heldout", "heldout/episodes/return")
    returns: Any = [row.values["heldout/episodes/return"] for row in found.values()]
    artifacts = rows(watched.run, "artifacts", "artifacts/best_model")
    newest = artifacts[max(artifacts)].values["artifacts/best_model"]
    assert isinstance(newest, Artifact)
    assert newest.metadata["return"] == max(returns)
    assert PPO.load(newest.path, device="cpu").num_timesteps == newest.metadata["step"]


def best_models(experiment: toolkit.Experiment) -> list[dict[str, Any]]:
    """The metadata of each version of the best model."""
    paths = sorted((experiment.log_dir / "artifacts" / "best_model").glob("v*/manifest.json"))
    return [json.loads(path.read_text())["metadata"] for path in paths]


def test_a_training_that_goes_on_has_to_beat_the_best_before_it(tmp_path: Path) -> None:
    """After a resume a worse evaluation saves no model, and a better one does."""
    model = script("train_sb3").agent()
    for returns, saved in [((1.0, 3.0), [1.0, 3.0]), ((2.0, 2.5), [1.0, 3.0]), ((2.0, 4.0), [1.0, 3.0, 4.0])]:
        with toolkit.Experiment("grpo", tmp_path, [*QUIET, *OFTEN, "sb3.video=false"]) as experiment:
            callbacks = experiment.get_callbacks(Scripted(*returns))
            model.learn(STEPS, callback=callbacks, reset_num_timesteps=False)
        assert [metadata["return"] for metadata in best_models(experiment)] == saved


def test_a_second_model_has_a_best_of_its_own(tmp_path: Path) -> None:
    """The same callbacks on another model keep its best, though the first one's was better."""
    with toolkit.Experiment("grpo", tmp_path, [*QUIET, *OFTEN, "sb3.video=false"]) as experiment:
        callbacks = experiment.get_callbacks(Scripted(5.0, 3.0, 1.0, 2.0))
        for _ in range(2):
            script("train_sb3").agent().learn(STEPS, callback=callbacks)
        assert [metadata["return"] for metadata in best_models(experiment)] == [5.0, 1.0, 2.0]


def test_a_video_shows_the_episode(watched: Trained) -> None:
    """Its frames are what the environment renders, cut at the number that is configured."""
    (row,) = rows(watched.run, "train", "video/episode").values()
    video = row.values["video/episode"]
    assert isinstance(video, Video)
    assert 1 < len(video.frames) <= 6
    assert video.frames.shape[1:] == (8, 64, 3)


def test_another_algorithm_and_a_normalised_environment(tmp_path: Path) -> None:
    """DQN on normalised observations is evaluated on observations normalised as the training's."""
    script("train_sb3")
    env = VecNormalize(make_vec_env("Corridor-v0"))
    model = DQN("MlpPolicy", env, learning_starts=32, seed=0, device="cpu")
    with toolkit.Experiment("grpo", tmp_path, [*QUIET, *OFTEN]) as experiment:
        model.learn(512, callback=experiment.get_callbacks())
    assert list(rows(tmp_path, "heldout", "heldout/episodes/return")) == [512]
    assert {path.suffix for path in (tmp_path / "checkpoints").iterdir()} == {".zip", ".pkl"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            None,
            [
                "evaluation: step 512: ToolkitError: the training env",
                "videos: step 1024: ToolkitError: the training env",
            ],
        ),
        (
            Unregistered(),
            ["videos: step 1024: ToolkitError: the environment renders None: expected render_mode='rgb_array'"],
        ),
    ],
)
def test_what_cannot_be_played_costs_only_itself(
    given: Any, said: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each callback that cannot go on says so once, and training and the others go on."""
    model = PPO("MlpPolicy", Unregistered(), n_steps=256, seed=0, device="cpu")
    with toolkit.Experiment("grpo", tmp_path, [*QUIET, *OFTEN]) as experiment:
        model.learn(STEPS, callback=experiment.get_callbacks(given))
    warnings = [
        record.message for record in caplog.records if record.name == "toolkit" and "observed" in record.message
    ]
    assert len(warnings) == len(said)
    assert all(part in message for part, message in zip(said, warnings, strict=True))
    assert list(rows(tmp_path, "train", "batch/return/mean")) == [256, 512, 768, 1024]


def test_a_callback_is_switched_off_by_the_configuration(tmp_path: Path) -> None:
    """Only those that are on are given."""
    overrides = [*QUIET, "sb3.video=false", "sb3.evaluation=false", "sb3.checkpoints=false"]
    with toolkit.Experiment("grpo", tmp_path, overrides) as experiment:
        assert [type(callback).__name__ for callback in experiment.get_callbacks()] == ["MetricsCallback"]


def test_the_script_runs_from_a_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trains and writes its run where `--log-dir` says."""
    monkeypatch.setattr(sys, "argv", ["train_sb3", "--steps", "1000", "--log-dir", str(tmp_path), *QUIET])
    script("train_sb3").main()
    assert 1000 in rows(tmp_path, "heldout", "heldout/episodes/return")
