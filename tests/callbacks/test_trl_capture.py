"""The adapter on hosts made by hand: what is copied, whatever their shape, and what rollout becomes of it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from toolkit.callbacks.naming import unique
from toolkit.callbacks.observer import Observer
from toolkit.callbacks.trl import attach
from toolkit.callbacks.trl_capture import Capture
from toolkit.callbacks.trl_rollout import Scored, references, rewards_of_all, rollout_of, text, update_of
from toolkit.config import Config
from toolkit.logger import Logger


class Host:
    """The methods of a trainer that are looked at, and one step of it."""

    reward_funcs: tuple[Any, ...] = (lambda **_: [0.0, 1.0],)
    reward_func_names = ("score",)
    reward_weights = torch.ones(1)
    num_generations = 2
    processing_class = SimpleNamespace(eos_token_id=1, pad_token_id=0)
    model = SimpleNamespace(training=True)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        functions = getattr(self, "reward_funcs", Host.reward_funcs)
        return torch.tensor([function(completions=completions) for function in functions]).T

    def _generate(self, prompts: Any) -> None:
        pass

    def training_step(self, model: Any, inputs: Any) -> str:
        return self._compute_loss(model, self._generate_and_score_completions(inputs))

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        self._generate(inputs)
        self._calculate_rewards(inputs, ["a", "a"], ["b", "c"], completion_ids_list=[[5, 1], [5, 6]])
        return {"advantages": torch.tensor([-1.0, 1.0]), "completion_mask": torch.ones(2, 2)}

    def _get_per_token_logps_and_entropies(self) -> Any:
        return torch.full((2, 2), -0.5, requires_grad=True), torch.ones(2, 2), None

    def _compute_loss(self, model: Any, inputs: Any) -> str:
        self._get_per_token_logps_and_entropies()
        return "the loss"

    def step(self) -> str:
        return self.training_step(None, [{}, {}])


class WithoutEntropy(Host):
    def _get_per_token_logps_and_entropies(self) -> Any:
        return torch.full((2, 2), -0.5, requires_grad=True), None


class OfAnotherArity(Host):
    def _get_per_token_logps_and_entropies(self) -> Any:
        return (torch.full((2, 2), -0.5, requires_grad=True),)


class WithMoreArguments(Host):
    def _compute_loss(self, model: Any, inputs: Any, scale: float = 1.0) -> str:
        return super()._compute_loss(model, inputs)

    def step(self) -> str:
        return self._compute_loss(None, self._generate_and_score_completions([{}, {}]), 2.0)


class OfAnotherWay(Host):
    def _compute_loss(self, model: Any, inputs: Any) -> str:
        return "the loss"


class WithoutRewards(Host):
    _calculate_rewards: Any = property()  # reading it raises AttributeError, as if it were not there

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        return {"advantages": torch.tensor([-1.0, 1.0]), "completion_mask": torch.ones(2, 2)}


class WithoutGeneration(Host):
    _generate: Any = property()

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        self._calculate_rewards(inputs, ["a", "a"], ["b", "c"], completion_ids_list=[[5, 1], [5, 6]])
        return {"advantages": torch.tensor([-1.0, 1.0]), "completion_mask": torch.ones(2, 2)}


class WithoutFunctions(Host):
    reward_funcs: Any = property()


@pytest.mark.parametrize(
    ("host", "lost", "reasons"),
    [
        (Host, set(), []),
        (WithoutEntropy, {"entropy"}, ["entropy of tokens: WithoutEntropy did not compute it"]),
        (OfAnotherArity, {"logp", "entropy"}, ["logprobs of tokens: _get_per_token_logps_and_entropies is not what"]),
        (WithMoreArguments, {"logp", "entropy"}, ["logprobs of tokens: _compute_loss is not what was expected"]),
        (OfAnotherWay, {"logp", "entropy"}, ["logprobs of tokens: OfAnotherWay took its first step without"]),
        (
            WithoutRewards,
            {"rewards", "timings", "latencies"},
            [
                "time of phases: WithoutRewards has no _calculate_rewards",
                "rewards and completions: WithoutRewards has no _calculate_rewards",
            ],
        ),
        (WithoutGeneration, {"timings"}, ["time of phases: WithoutGeneration has no _generate"]),
        (WithoutFunctions, {"latencies"}, ["time of reward functions: reward_funcs are not what was expected"]),
    ],
)
def test_a_host_that_changed(
    host: type[Host], lost: set[str], reasons: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A host of another shape steps as ever; what it no longer gives is named once, the rest is still observed."""
    trainer = host()
    capture = Capture(trainer)
    capture.attach()
    for _ in range(2):
        assert trainer.step() == "the loss"
        rollout, update = capture.take()
        timings = capture.take_timings()
        found = {name for name in ("logp", "entropy") if update and getattr(update(), name) is not None}
        found |= {name for name in ("rewards", "latencies") if rollout and getattr(rollout(), name)}
        found |= {"timings"} if timings else set()
        assert found == {"logp", "entropy", "rewards", "timings", "latencies"} - lost
    said = [record.message for record in caplog.records]
    assert len(said) == len(reasons)
    assert all(reason in line for reason, line in zip(reasons, said, strict=True))


def test_two_observers_leave_the_host_as_it_was() -> None:
    """Two captures of one trainer both see the step, and afterwards neither keeps anything of it."""
    trainer = Host()
    first, second = Capture(trainer), Capture(trainer)
    first.attach()
    second.attach()
    trainer.step()
    assert all(source is not None for capture in (first, second) for source in capture.take())
    first.detach()
    second.detach()
    trainer.step()
    assert first.take() == second.take() == (None, None)


def test_what_was_given_ahead_is_not_given_again() -> None:
    """At the end of the step there is nothing, unless more came meanwhile: then there is all of it."""
    trainer, calls = Host(), list[int]()

    def passed() -> float:
        calls.append(1)
        return 0.0

    capture = Capture(trainer, passed)
    capture.attach()
    trainer.step()
    assert all(capture.so_far())
    assert capture.take() == (None, None)
    trainer.step()
    assert all(capture.so_far())
    trainer._compute_loss(None, {"completion_mask": torch.ones(2, 2)})
    rollout, update = capture.take()
    assert rollout
    assert update
    assert len(np.asarray(rollout().rewards["score"])) == 2
    assert len(np.asarray(update().mask)) == 4
    assert len(calls) == 3


def test_evaluation_is_not_captured() -> None:
    """What a host in evaluation mode generates is not a rollout."""
    trainer = Host()
    capture = Capture(trainer)
    capture.attach()
    trainer.step()
    capture.take()
    trainer.model = SimpleNamespace(training=False)
    trainer._generate_and_score_completions([{}, {}])
    assert capture.take() == (None, None)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["f", "g"], ("f", "g")),
        (["f", "f", "f"], ("f", "f#2", "f#3")),
        (["f", "f#2", "f"], ("f", "f#2", "f#3")),
        (["total"], ("total#2",)),
    ],
)
def test_names_are_unique(names: list[str], expected: tuple[str, ...]) -> None:
    """Every reward has a name of its own, and none is called `total`."""
    assert unique(names) == expected


def test_a_row_without_a_reference_has_none() -> None:
    """Not the word None, against which no answer could be right."""
    assert references([{"answer": "4"}, {"answer": None}, {"answer": 5}]) == ["4", None, "5"]
    assert references([{"prompt": "2 + 2"}]) is None


def test_text_of_messages() -> None:
    """Text parts and missing contents of a conversation are understood, images are passed over."""
    parts = [{"type": "image"}, {"type": "text", "text": "what is this?"}]
    assert text([{"content": parts}, {"content": None}, {"content": "a cat"}]) == "what is this?\n\na cat"


def scored(rewards: list[float], ids: list[list[int]]) -> Scored:
    """One generation with its rewards."""
    texts = ["text"] * len(ids)
    return Scored(torch.tensor(rewards)[:, None], ("f",), torch.ones(1), 2, texts, texts, None, ids, frozenset({1}))


@pytest.mark.parametrize(("process", "rewards"), [(0, [0, 1]), (1, [2, 3])])
def test_rewards_of_several_processes(process: int, rewards: list[float]) -> None:
    """Where rewards are of more completions than this process has, the rollout has its own rows of them."""
    generation = replace(scored([0, 1, 2, 3], [[5, 1], [5, 6]]), process=process)
    rollout = rollout_of([generation], [{"advantages": torch.zeros(2)}])
    assert rollout.group_size == 2
    assert np.asarray(rollout.rewards["f"]).tolist() == rewards
    assert rollout.completions == ["text"] * 2
    whole = rewards_of_all([generation])
    assert np.asarray(whole.rewards["f"]).tolist() == [0, 1, 2, 3]


def test_groups_of_several_processes() -> None:
    """Groups that go on in the next process are known for the rewards of all, and not for the own rows."""
    generation = replace(scored([0, 1, 2, 3], [[5, 1]]), process=2)
    assert rollout_of([generation], []).group_size is None
    assert np.asarray(rollout_of([generation], []).rewards["f"]).tolist() == [2]
    assert rewards_of_all([generation]).group_size == 2


def test_tokens_of_tools_are_not_completion() -> None:
    """What a tool wrote into a completion is masked; of two generations the rows follow each other."""
    generations = [scored([0, 1], [[5, 6, 1], [5, 1]]), scored([2, 3], [[5], [1]])]
    tool_masks = [torch.tensor([[1, 0, 1], [1, 1, 1]]), torch.tensor([[1], [1]])]
    rollout = rollout_of(generations, [{"advantages": torch.zeros(2), "tool_mask": mask} for mask in tool_masks])
    assert np.asarray(rollout.mask, int).tolist() == [[1, 0, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert np.asarray(rollout.truncated).tolist() == [False, False, True, False]


def test_an_update_joins_micro_batches_of_different_length() -> None:
    """Micro-batches are padded to the longest; what one of them lacks is left out."""
    short = {"mask": torch.ones(1, 2), "logp": torch.ones(1, 2, dtype=torch.bfloat16), "old_logp": torch.ones(1, 2)}
    update = update_of([short, {"mask": torch.ones(1, 3), "logp": torch.ones(1, 3)}])
    assert np.asarray(update.mask, int).tolist() == [[1, 1, 0], [1, 1, 1]]
    assert np.asarray(update.logp).tolist() == [[1, 1, 0], [1, 1, 1]]
    assert update.old_logp is None


class Follower:
    """What `attach` needs of a trainer."""

    def __init__(self, **args: Any) -> None:
        self.args = SimpleNamespace(output_dir="out", **args)
        self.callback_handler = SimpleNamespace(callbacks=[])

    def add_callback(self, callback: Any) -> None:
        self.callback_handler.callbacks.append(callback)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, (0.2, 0.2)),
        ({"epsilon": 0.1, "epsilon_high": None, "loss_type": "dapo"}, (0.1, 0.1)),
        ({"epsilon": 0.1, "epsilon_high": 5.0, "loss_type": "cispo"}, (1.0, 4.0)),
    ],
)
def test_clip_ranges(args: dict[str, Any], expected: tuple[float, float]) -> None:
    """The clip range is that of the trainer's loss, CISPO's included, and the configured one where it has none."""
    seen: list[tuple[Config, Path]] = []

    def make(config: Config, log_dir: Path) -> Observer:
        seen.append((config, log_dir))
        return Observer(Logger(()), ())

    follower: Any = Follower(**args)
    attach(follower, Config(), None, make).close()
    [(config, log_dir)] = seen
    assert (config.metrics.policy.clip_low, config.metrics.policy.clip_high) == expected
    assert log_dir == Path("out/toolkit")
