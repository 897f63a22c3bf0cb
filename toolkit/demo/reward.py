"""The reward functions: texts in, one number a completion out, as a user writes them for TRL.

A completion should read `<reasoning>6+9=15,3+4+1=8</reasoning><answer>85</answer>`. Rewards are 0 to 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from toolkit.demo.tokenizer import COMPLETION_LENGTH, encode

RewardFunction: TypeAlias = Callable[[Sequence[str], Sequence[str], Sequence[str]], list[float]]

_ANSWER = re.compile(r"<answer>(\d+)</answer>")
_WELL_FORMED = re.compile(r"<reasoning>[^<>]+</reasoning><answer>\d+</answer>")


def correct(prompts: Sequence[str], completions: Sequence[str], references: Sequence[str]) -> list[float]:
    """1 where exactly one answer is given and, as a number, equals the reference; else 0."""
    answers = [_ANSWER.findall(completion) for completion in completions]
    return [
        float(len(given) == 1 and int(given[0]) == int(reference))
        for given, reference in zip(answers, references, strict=True)
    ]


def format(prompts: Sequence[str], completions: Sequence[str], references: Sequence[str]) -> list[float]:
    """1 where the completion is some reasoning and then one answer, each in its tags, and nothing else."""
    return [float(_WELL_FORMED.fullmatch(completion) is not None) for completion in completions]


def brevity(prompts: Sequence[str], completions: Sequence[str], references: Sequence[str]) -> list[float]:
    """1 for an empty completion, falling linearly to 0 for one that fills all `COMPLETION_LENGTH` tokens."""
    return [1 - len(encode(completion)) / COMPLETION_LENGTH for completion in completions]


REWARDS: Mapping[str, RewardFunction] = MappingProxyType({"correct": correct, "format": format, "brevity": brevity})
WEIGHTS: Mapping[str, float] = MappingProxyType({"correct": 1.0, "format": 0.3, "brevity": 0.1})
