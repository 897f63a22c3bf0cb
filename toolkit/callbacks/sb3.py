"""stable-baselines3: callbacks for `model.learn(callback=...)`, which an `Experiment` gives.

All are called on the training thread, and an evaluation or a video takes the time that playing takes. Nothing is drawn
from the generators of the training, and what goes wrong switches off that callback, with one warning.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.vec_env import VecEnv

from toolkit.callbacks.methods import Level
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.sb3_arena import Arena
from toolkit.generators import generators_kept
from toolkit.record import Artifact, Video
from toolkit.settings import Scheduled
from toolkit.settings.sb3 import Checkpoints, Evaluation, StableBaselines
from toolkit.settings.sb3 import Video as VideoSettings

Save: TypeAlias = Callable[[Path, str, Mapping[str, Any], int], object]
"""(path, name, metadata, step): keep a file as an artifact."""

Find: TypeAlias = Callable[[str], Artifact | None]
"""The newest version of an artifact by name; None where there is none."""

BEST_MODEL = "best_model"


def callbacks(
    observer: Observer,
    settings: StableBaselines,
    log_dir: Path,
    save: Save,
    find: Find,
    eval_env: gymnasium.Env[Any, Any] | VecEnv | None = None,
) -> list[BaseCallback]:
    """The callbacks that the settings switch on; evaluation and video play in `eval_env`, or in one they make."""
    arena = Arena(eval_env, settings.evaluation.seed)
    made: list[tuple[Scheduled, BaseCallback]] = [
        (settings.metrics, MetricsCallback(observer, settings.metrics.every)),
        (settings.evaluation, EvaluationCallback(observer, settings.evaluation, arena, save, find)),
        (settings.checkpoints, CheckpointCallback(settings.checkpoints, log_dir)),
        (settings.video, VideoCallback(observer, settings.video, arena)),
    ]
    return [callback for section, callback in made if section.enabled]


class Turn(BaseCallback):
    """A callback that has its turn each time another `every` steps of the environment are done."""

    def __init__(self, what: str, every: int) -> None:
        super().__init__()
        self._level = Level(what)
        self._every = every
        self._turns = 0

    def _on_training_start(self) -> None:
        self._turns = self.num_timesteps // self._every
        self._level.tried("it cannot start", self.begin)

    def _on_step(self) -> bool:
        self._level.tried("a step is not as expected", self.look)
        if self.num_timesteps // self._every > self._turns:
            self._turns = self.num_timesteps // self._every
            with generators_kept():
                self._level.tried(f"step {self.num_timesteps}", self.act)
        return True

    def _on_training_end(self) -> None:
        self._level.tried("it cannot end", self.end)

    def begin(self) -> None:
        """The training begins."""

    def look(self) -> None:
        """A step of the environment ended."""

    def act(self) -> None:
        """The turn has come."""

    def end(self) -> None:
        """The training ends."""


class MetricsCallback(Turn):
    """Logs the episodes that ended, and chains the model's own log.

    | key | what |
    |---|---|
    | `batch/return/*`, `batch/length/*` | mean, std, min and max over the episodes that ended since the last row |
    | `batch/success/success_rate` | where the environment says `is_success` |
    | `trainer/KEY` | what the model logs, whenever it does, under its own keys |
    | `time/step_s` | the time between two rows |
    """

    def __init__(self, observer: Observer, every: int) -> None:
        super().__init__("the metrics of stable-baselines3", every)
        self._observer = observer
        self._writer = _Writer(observer)
        self._episodes: list[dict[str, Any]] = []

    def begin(self) -> None:
        """Listen to the model's logger, beside its own formats."""
        self.logger.output_formats.append(self._writer)

    def look(self) -> None:
        """Keep the episodes that ended at this step."""
        self._episodes += [info for info in self.locals["infos"] if "episode" in info]

    def act(self) -> None:
        """Log a row."""
        episodes, self._episodes = self._episodes, []
        batch: dict[str, Any] = {
            "return": np.array([info["episode"]["r"] for info in episodes], np.float32),
            "length": np.array([info["episode"]["l"] for info in episodes], np.float32),
        }
        if all("is_success" in info for info in episodes):
            batch["success"] = np.array([bool(info["is_success"]) for info in episodes])
        self._observer.step(self.num_timesteps, batch=batch if episodes else None)

    def end(self) -> None:
        """Log what is left, and leave the logger as it was."""
        if self._episodes:
            self.act()
        self.logger.output_formats.remove(self._writer)


class _Writer(KVWriter):
    """Passes the numbers that a model logs on to an observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        numbers = {key: value for key, value in key_values.items() if isinstance(value, (int, float, np.number))}
        self._observer.log(step, {"trainer": numbers})

    def close(self) -> None:
        pass


class EvaluationCallback(Turn):
    """Plays episodes by the likeliest actions, and keeps the best model as the artifact `best_model`.

    | key (stream `heldout`) | what |
    |---|---|
    | `heldout/episodes/return`, `_se` | mean over the episodes, and its standard error |
    | `heldout/episodes/length` | their mean length |
    | `heldout/episodes/duration_s` | how long that took |

    A training that goes on has to beat the best model that it has saved before; one that begins again does not.
    """

    def __init__(self, observer: Observer, settings: Evaluation, arena: Arena, save: Save, find: Find) -> None:
        super().__init__("evaluation", settings.every)
        self._observer = observer
        self._episodes = settings.episodes
        self._arena = arena
        self._save = save
        self._find = find
        self._best = float("-inf")

    def begin(self) -> None:
        """Look for the best model so far."""
        self._best = self._best_so_far()

    def act(self) -> None:
        """Evaluate the model as it is."""
        began = time.perf_counter()
        returns, lengths = self._arena.returns(self.model, self._episodes)
        values = {"return": returns.mean(), "length": lengths.mean(), "duration_s": time.perf_counter() - began}
        if len(returns) > 1:
            values["return_se"] = returns.std(ddof=1) / len(returns) ** 0.5
        self._observer.log(self.num_timesteps, {"heldout": {"episodes": values}}, stream="heldout")
        if returns.mean() > self._best:
            self._best = float(returns.mean())
            self._save_best()

    def end(self) -> None:
        """Close the environment."""
        self._arena.close()

    def _best_so_far(self) -> float:
        """The return of the saved best model, unless a training that was further than this one has saved it."""
        saved = self._find(BEST_MODEL)
        match saved and saved.metadata:
            case {"step": int(step), "return": float(best)} if step <= self.num_timesteps:
                return best
        return float("-inf")

    def _save_best(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / f"{BEST_MODEL}.zip"
            self.model.save(path)
            self._save(path, BEST_MODEL, {"step": self.num_timesteps, "return": self._best}, self.num_timesteps)


class CheckpointCallback(Turn):
    """Saves the model to `checkpoints/sb3_STEP.zip` in the run's directory, as `model.save` does, and keeps the newest.

    The statistics of a `VecNormalize` lie beside it, in `sb3_STEP.pkl`.
    """

    def __init__(self, settings: Checkpoints, log_dir: Path) -> None:
        super().__init__("checkpoints", settings.every)
        self._keep = settings.keep
        self._directory = log_dir / "checkpoints"

    def act(self) -> None:
        """Save the model, and remove the oldest of those that are too many."""
        self._directory.mkdir(parents=True, exist_ok=True)
        path = self._directory / f"sb3_{self.num_timesteps:010d}.zip"
        self.model.save(path)
        if normalised := self.model.get_vec_normalize_env():
            normalised.save(str(path.with_suffix(".pkl")))
        for old in self._by_age(path)[: -self._keep]:
            old.unlink()
            old.with_suffix(".pkl").unlink(missing_ok=True)

    def _by_age(self, newest: Path) -> list[Path]:
        # Not by step: what an earlier training left may have higher ones. A coarse clock may give two the same time.
        paths = self._directory.glob("sb3_*.zip")
        return sorted(paths, key=lambda path: (path == newest, path.stat().st_mtime_ns, path.name))


class VideoCallback(Turn):
    """Plays an episode by the likeliest actions and logs what the environment renders of it.

    | key | what |
    |---|---|
    | `video/episode` | the episode, from an environment with `render_mode="rgb_array"` |
    """

    def __init__(self, observer: Observer, settings: VideoSettings, arena: Arena) -> None:
        super().__init__("videos", settings.every)
        self._observer = observer
        self._settings = settings
        self._arena = arena

    def act(self) -> None:
        """Play an episode."""
        frames = self._arena.frames(self.model, self._settings.max_frames)
        caption = f"after {self.num_timesteps} steps"
        self._observer.log(self.num_timesteps, {"video/episode": Video(frames, self._settings.fps, caption)})

    def end(self) -> None:
        """Close the environment."""
        self._arena.close()
