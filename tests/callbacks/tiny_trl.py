"""A GRPO trainer of TRL that needs no network: a random Qwen2 of two layers and a tokenizer trained on one sentence."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Trainer
from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]  # its lazy module hides its names

from toolkit.callbacks import RolloutEvent, Source, StepEvent
from toolkit.rollout import Rollout
from toolkit.sinks.jsonl import read

WARNINGS = [
    # transformers 5.23 renames an option that TRL 1.16 still sets, and a property that its own code still reads.
    "ignore:`gradient_checkpointing` is deprecated:FutureWarning",
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",
]
"""What the host says under `-W error`, each with its reason."""


def vowels(completions: list[str], **_: Any) -> list[float]:
    return [sum(letter in "aeiou" for letter in completion) / 4 for completion in completions]


def at_least(length: int) -> Callable[..., list[float]]:
    # Not a partial: TRL before 1.5 wants a __name__.
    def at_least(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(len(ids) >= length) for ids in completion_ids]

    return at_least


def sometimes(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
    return [None if ids[0] % 2 else ids[0] / 280 for ids in completion_ids]


def score(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [ids[0] / 280 for ids in completion_ids]


def other_score(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(len(ids)) for ids in completion_ids]


other_score.__name__ = "score"


_CHAT = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with an end token, a padding token and a chat template without roles."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<eos>"]
    bpe.train_from_iterator(
        ["one plus two is three"],
        trainers.BpeTrainer(vocab_size=280, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<eos>", padding_side="left")
    fast.chat_template = _CHAT
    return fast


def model(seed: int = 0) -> Qwen2ForCausalLM:
    """A random model of which every eighth token ends the completion, so that some are cut off and some are not."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=280,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    tiny = Qwen2ForCausalLM(config)
    tiny.generation_config = GenerationConfig(eos_token_id=[1, *range(8, 280, 8)], pad_token_id=0)
    return tiny


def prompts(count: int = 16, conversational: bool = False) -> Dataset:
    """Sums to complete, with their answers."""
    texts = [f"{number} plus {number} is" for number in range(count)]
    rows = [[{"role": "user", "content": text}] for text in texts] if conversational else texts
    return Dataset.from_dict({"prompt": rows, "answer": [2 * number for number in range(count)]})


SILENT = ["sinks.console=false", "queue.close_s=600"]
"""Settings for the toolkit: nothing printed, and time to compile on a machine that does much else."""

DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "num_generations": 4,
    "max_completion_length": 8,
    "max_steps": 4,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "seed": 3,
}
QUIET: dict[str, Any] = {
    "report_to": [],
    "save_strategy": "no",
    "disable_tqdm": True,
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
}
_OF_TRAINER = frozenset({"callbacks", "eval_dataset", "peft_config", "rollout_func"})


def trainer(
    directory: Path,
    rewards: Sequence[Callable[..., Any]],
    policy: Any = None,
    conversational: bool = False,
    **settings: Any,
) -> GRPOTrainer:
    """A trainer of `policy`, a model or a path, for four steps of one batch of two groups of four.

    `settings` are those of the configuration, and some arguments of the trainer itself.
    """
    given = {
        "eval_dataset": prompts(2, conversational),
        **{key: settings.pop(key) for key in _OF_TRAINER & {*settings}},
    }
    return GRPOTrainer(
        model() if policy is None else policy,
        list(rewards),
        args=GRPOConfig(output_dir=str(directory), **known({**DEFAULTS, **QUIET, **settings})),
        train_dataset=prompts(conversational=conversational),
        processing_class=tokenizer(),
        **given,
    )


def known(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that this version of TRL has; what it does not know, it does not do."""
    return {key: value for key, value in settings.items() if key in GRPOConfig.__dataclass_fields__}


def journal(directory: Path) -> dict[int, dict[str, Any]]:
    """What the training logged, by step."""
    rows: dict[int, dict[str, Any]] = {}
    for record in read(directory / "metrics.jsonl"):
        if record.stream == "train":
            rows.setdefault(record.step, {}).update(record.values)
    return rows


def logged(trainer: Trainer, key: str) -> dict[int, float]:
    """What TRL logged under a key of its own, by step."""
    return {int(row["step"]): row[key] for row in trainer.state.log_history if key in row}


class Recorder:
    """Keeps every step, and the numbers of those that were there ahead."""

    def __init__(self) -> None:
        self.events: list[StepEvent] = []
        self.ahead: list[int] = []

    def on_rollout(self, event: RolloutEvent) -> None:
        self.ahead.append(event.step)

    def on_step(self, event: StepEvent) -> None:
        self.events.append(event)


def built(source: Source | None) -> Rollout:
    """The rollout that the worker would build."""
    assert source is not None
    (rollout,) = source.later()()
    return rollout
