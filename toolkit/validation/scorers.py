"""Scorers: a number for each completion, from its prompt and its reference; 1 is right and 0 is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

Scorer: TypeAlias = Callable[[Sequence[str], Sequence[str], Sequence[str]], Sequence[float]]
"""(prompts, completions, references) -> a score a completion."""


def correctness(
    prompts: Sequence[str], completions: Sequence[str], references: Sequence[str], tag: str = "answer"
) -> list[float]:
    """1 where the content of the answer tag is the reference: the same number, or the same text."""
    return [float(_same(_content(text, tag), reference)) for text, reference in zip(completions, references, strict=True)]


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


def _content(text: str, tag: str) -> str:
    """What stands in the last tag pair; nothing when there is none."""
    found = re.findall(rf"<{re.escape(tag)}>(.*?)</{re.escape(tag)}>", text, re.DOTALL)
    return found[-1].strip() if found else ""


def _same(answer: str, reference: str) -> bool:
    try:
        return math.isclose(float(answer.replace(",", "")), float(reference.replace(",", "")), rel_tol=1e-9)
    except ValueError:
        return bool(answer) and answer == reference.strip()
