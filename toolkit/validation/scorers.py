"""Scorers: a number for each completion, from its prompt and its reference; 1 is right and 0 is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from toolkit.text.answer import final_answer, reference_answer, same_plain_answer

Scorer: TypeAlias = Callable[[Sequence[str], Sequence[str], Sequence[str]], Sequence[float]]
"""(prompts, completions, references) -> a score a completion."""


def correctness(
    prompts: Sequence[str], completions: Sequence[str], references: Sequence[str], tag: str = "answer"
) -> list[float]:
    """1 where the completion's final answer is the reference's: the same number, or the same text.

    Expressions are not compared: that can take any time (`toolkit.text.process`), and scorers run beside the training.
    """
    pairs = zip(completions, references, strict=True)
    return [float(_is_right(final_answer(text, tag), reference_answer(reference, tag))) for text, reference in pairs]


def strict_format(tags: Sequence[str]) -> Scorer:
    """A scorer that gives 1 where each tag pair stands exactly once, in order, filled, and nothing outside."""
    pattern = re.compile(r"\s*".join(_filled_pair(tag) for tag in tags))

    def score(prompts: Sequence[str], completions: Sequence[str], references: Sequence[str]) -> list[float]:
        return [float(_strict(pattern, tags, text)) for text in completions]

    return score


def _filled_pair(tag: str) -> str:
    return rf"<{re.escape(tag)}>.*\S.*</{re.escape(tag)}>"


def _strict(pattern: re.Pattern[str], tags: Sequence[str], text: str) -> bool:
    once = all(text.count(f"<{tag}>") == 1 == text.count(f"</{tag}>") for tag in tags)
    return once and pattern.fullmatch(text.strip().replace("\n", " ")) is not None


def _is_right(answer: str | None, reference: str) -> bool:
    return answer is not None and same_plain_answer(answer, reference) is True
