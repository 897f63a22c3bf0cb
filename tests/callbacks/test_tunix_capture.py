"""The Tunix adapter on learners made by hand: what is kept, whatever their shape, and what rollout becomes of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from toolkit.callbacks import Source, StepEvent, Stop
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.tunix import attach
from toolkit.callbacks.tunix_rollout import Generation, rollout_of
from toolkit.callbacks.validation import ValidationCallback
from toolkit.config import Config
from toolkit.logger import Logger
from toolkit.rollout import Rollout
from toolkit.settings.callbacks import Plateau, Validation
from toolkit.sinks.memory import MemorySink
from toolkit.validation.background import BackgroundValidator


class Recorder:
    """Keeps every step."""

    def __init__(self) -> None:
        self.events: list[StepEvent] = []

    def on_step(self, event: StepEvent) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass


def score(prompts: Any, completions: Any, answer: Any, **_: Any) -> list[float]:
    return [0.0, 1.0]


class Cluster:
    """The models: each generation has two completions, the second of which is cut off."""

    global_steps = 0

    def __init__(self) -> None:
        log: Callable[..., None] = lambda *_: None  # noqa: E731  (an attribute, as a method of the logger is)
        self.actor_trainer = SimpleNamespace(
            train_steps=0, metrics_prefix="actor", metrics_logger=SimpleNamespace(log=log)
        )
        self.rollout = SimpleNamespace(pad_id=lambda: 0, eos_id=lambda: 1)

    def get_rollout_config(self, mode: Any) -> Any:
        return SimpleNamespace(eos_tokens=None, max_tokens_to_generate=3, temperature=1.0)

    def generate(self, prompts: Sequence[str], mode: str = "train") -> Any:
        logprobs = [[-0.5, -1.0], [-0.25, -0.5, -0.75]]
        return SimpleNamespace(text=["b", "c"], tokens=[np.array([5, 6]), np.array([5, 6, 7])], logprobs=logprobs)

    def get_ref_per_token_logps(self) -> Any:
        return np.full((2, 3), -1.0)

    def get_old_per_token_logps(self) -> Any:
        return np.full((2, 3), -0.5)

    def update_actor(self, examples: Any) -> str:
        self.actor_trainer.train_steps += 1
        self.actor_trainer.metrics_logger.log("actor", "kl", 0.25, "train", self.actor_trainer.train_steps)
        self.actor_trainer.metrics_logger.log("rewards", "sum", 0.5, "train", self.global_steps)
        self.actor_trainer.metrics_logger.log("rewards", "each", np.zeros(2), "train", self.global_steps)
        return "the update"

    def close(self) -> None:
        """The training is over."""


class Learner:
    """A learner that does what Tunix's does, in its order."""

    should_sync_weights = False
    cluster: type[Cluster] = Cluster

    def __init__(self) -> None:
        self.rl_cluster = self.cluster()
        self.algo_config = SimpleNamespace(num_generations=2, epsilon=0.1, epsilon_high=0.3)
        self.reward_manager = SimpleNamespace(reward_fns=[score])
        self.metric_fns: Sequence[Any] = ()

    def generation(self, mode: str = "train") -> None:
        self.rl_cluster.generate(["a", "a"], mode=mode)
        self.rl_cluster.get_ref_per_token_logps()
        self.rewarded(mode)

    def rewarded(self, mode: str) -> None:
        columns = {"answer": ["x", "x"]}
        (rewards,) = (
            function(prompts=["a", "a"], completions=["b", "c"], mode=mode, **columns)
            for function in self.reward_manager.reward_fns
        )
        for metric in self.metric_fns:
            advantages = np.array([-1.0, 1.0])
            found = metric(
                prompts=["a", "a"], completions=["b", "c"], rewards=rewards, advantages=advantages, **columns
            )
            assert isinstance(found, dict)

    def train(self) -> list[str]:
        results = []
        for _ in range(2):
            self.generation()
            self.generation(mode="eval")
            results.append(self.rl_cluster.update_actor([]))
        self.rl_cluster.close()
        return results


class Renamed(Learner):
    """The next release calls the cluster an engine."""

    def __init__(self) -> None:
        super().__init__()
        self.rl_engine = self.rl_cluster


class WithoutGenerate(Learner):
    def generation(self, mode: str = "train") -> None:
        self.rewarded(mode)


class OfOtherTokens(Cluster):
    def generate(self, prompts: Sequence[str], mode: str = "train") -> Any:
        return SimpleNamespace(text=["b", "c"])


class WithOtherTokens(Learner):
    cluster = OfOtherTokens


class WithoutMetricFunctions(Learner):
    def rewarded(self, mode: str) -> None:
        """As a learner that calls neither reward nor metric functions."""


class WithoutRewardManager(Learner):
    def __init__(self) -> None:
        super().__init__()
        del self.reward_manager

    def rewarded(self, mode: str) -> None:
        """Rewards come from elsewhere."""


class OfAnotherLogger(Cluster):
    def __init__(self) -> None:
        super().__init__()
        del self.actor_trainer.metrics_logger

    def update_actor(self, examples: Any) -> str:
        self.actor_trainer.train_steps += 1
        return "the update"


class WithoutLogger(Learner):
    cluster = OfAnotherLogger


def watched(learner: Learner) -> tuple[list[str], list[StepEvent], MemorySink]:
    """What the training returned, the steps that were observed, and what was logged."""
    recorder, sink = Recorder(), MemorySink()
    attach(learner, Config(), Path("run"), lambda config, log_dir: Observer(Logger([sink]), [recorder]))
    return learner.train(), recorder.events, sink


def built(source: Source | None) -> Rollout:
    """The rollout that the worker would build."""
    assert source is not None
    (rollout,) = source.later()()
    return rollout


@pytest.mark.parametrize("kind", [Learner, Renamed])
def test_a_step_has_what_was_generated_for_it(kind: type[Learner]) -> None:
    """Rewards, advantages, texts, tokens and their logprobs, of the training alone; results pass through."""
    results, events, _ = watched(kind())
    assert results == ["the update", "the update"]
    assert [event.step for event in events] == [1, 2]
    rollout = built(events[1].rollout)
    assert {name: list(reward) for name, reward in rollout.rewards.items()} == {"score": [0.0, 1.0]}
    assert rollout.completions == ["b", "c"]
    assert rollout.references == ["x", "x"]
    assert rollout.advantages is not None
    assert rollout.advantages.tolist() == [-1.0, 1.0]
    np.testing.assert_array_equal(rollout.mask, [[True, True, False], [True, True, True]])
    np.testing.assert_array_equal(rollout.truncated, [False, True])
    np.testing.assert_array_equal(rollout.logp, [[-0.5, -1.0, 0.0], [-0.25, -0.5, -0.75]])
    np.testing.assert_array_equal(rollout.ref_logp, np.full((2, 3), -1.0))
    assert rollout.sampler_logp is None


@pytest.mark.parametrize(
    ("kind", "lost", "reason"),
    [
        (WithoutGenerate, {"mask", "logp", "truncated"}, "took its first step without generate of its cluster"),
        (
            WithOtherTokens,
            {"mask", "logp", "truncated"},
            "tokens and their logprobs: generate is not what was expected",
        ),
        (WithoutMetricFunctions, None, "took its first step without its reward and metric functions"),
        (WithoutRewardManager, None, "rewards and completions: its reward functions are not as expected"),
        (WithoutLogger, set(), "what Tunix logs: NoneType has no log"),
    ],
)
def test_a_learner_that_changed_costs_only_what_changed(
    kind: type[Learner], lost: set[str] | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Training goes on with one warning, and the rest is still observed."""
    results, events, _ = watched(kind())
    assert results == ["the update", "the update"]
    assert [event.step for event in events] == [1, 2]
    (said,) = [record.message for record in caplog.records if record.name == "toolkit"]
    assert reason in said
    if lost is None:
        assert events[1].rollout is None
    else:
        rollout = built(events[1].rollout)
        assert {name for name in ("mask", "logp", "truncated") if getattr(rollout, name) is None} == lost
        assert rollout.completions == ["b", "c"]


def test_scalars_stand_on_their_own_axis() -> None:
    """The actor's at its update, others at their global step; what is no number is left out."""
    _, _, sink = watched(Learner())
    found = {(record.stream, record.step): record.values for record in sink.records if "each" not in str(record.values)}
    assert found["train", 2] == {"trainer/actor/train/kl": 0.25}
    assert found["global", 0] == {"trainer/rewards/train/sum": 0.5}
    assert not any("each" in key for record in sink.records for key in record.values)


class Impatient:
    """Asks for the end at every step."""

    def on_step(self, event: StepEvent) -> None:
        event.ask(Stop(f"step {event.step}"))


@pytest.mark.parametrize(
    ("config", "callbacks", "validated", "expected"),
    [
        (Config(), [Recorder()], False, []),
        (Config(), [Recorder()], True, ["observer.validate"]),
        (Config(), [Impatient()], False, ["observer.asks.stop"]),
        (Config(plateau=Plateau(enabled=True, stop=True)), [Impatient()], False, ["observer.asks.stop"]),
        (Config(plateau=Plateau(enabled=True, stop=True)), [Recorder()], False, ["observer.asks.stop"]),
    ],
    ids=["nothing", "held-out data", "a callback", "both", "plateau"],
)
def test_what_tunix_does_not_follow_is_said_once(
    config: Config, callbacks: Any, validated: bool, expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Held-out data and requests to stop, with what to call instead."""
    validation = ValidationCallback(Validation(), BackgroundValidator(lambda policy, step: [])) if validated else None
    learner = Learner()
    attach(learner, config, Path("run"), lambda read, _: Observer(Logger([]), callbacks, validation, config=read))
    learner.train()
    said = [record.message for record in caplog.records if record.name == "toolkit"]
    assert len(said) == len(expected)
    assert all(part in message for part, message in zip(expected, said, strict=True))


def test_what_the_sampler_has_is_the_policy_s_only_while_it_is() -> None:
    """A sampler with weights of its own that an update left behind gives no logprobs of the policy."""
    learner = Learner()
    learner.should_sync_weights = True
    _, events, _ = watched(learner)
    assert built(events[0].rollout).logp is not None
    assert built(events[1].rollout).logp is None


def test_the_reward_functions_come_back_unless_somebody_wrapped_them_since() -> None:
    """The learner gets its own back; a list that somebody put there during the training stays."""
    learner = Learner()
    watched(learner)
    assert learner.reward_manager.reward_fns == [score]
    assert learner.metric_fns == ()
    assert not {"generate", "update_actor", "close"} & set(vars(learner.rl_cluster))


def test_generations_of_one_step_become_one_rollout() -> None:
    """Rows stand below each other, filled up to the longest, with Tunix's own pass as the policy's at temperature 1."""
    parts = [
        Generation(
            prompts=["a"],
            completions=["b"],
            rewards={"score": [1.0]},
            latencies={"score": 0.5},
            advantages=[0.5],
            ids=[list(range(5, 5 + length))],
            limit=4,
            current=True,
            logprobs=[[-1.0] * length],
            old_logp=np.full((1, 4), -2.0),
            generation_s=1.0,
        )
        for length in (2, 3)
    ]
    rollout = rollout_of(parts, 1)
    assert rollout.latencies == {"score": 1.0}
    assert rollout.timings == {"generation_s": 2.0, "reward_s": 1.0}
    assert rollout.prompts == ["a", "a"]
    np.testing.assert_array_equal(rollout.mask, [[True, True, False], [True, True, True]])
    np.testing.assert_array_equal(rollout.logp, [[-2.0, -2.0, 0.0], [-2.0, -2.0, -2.0]])
    np.testing.assert_array_equal(rollout.sampler_logp, [[-1.0, -1.0, 0.0], [-1.0, -1.0, -1.0]])


def test_old_logprobs_of_another_temperature_are_not_the_policy_s() -> None:
    """Tunix takes them at temperature 1: at another one the policy's are the sampler's, and the old stay the old."""
    generation = Generation(
        rewards={"score": [1.0]},
        ids=[[5, 6]],
        temperature=0.9,
        current=True,
        logprobs=[[-1.0, -1.0]],
        old_logp=np.full((1, 4), -2.0),
    )
    rollout = rollout_of([generation], 1)
    np.testing.assert_array_equal(rollout.logp, [[-1.0, -1.0]])
    np.testing.assert_array_equal(rollout.old_logp, [[-2.0, -2.0]])
    assert rollout.sampler_logp is None
