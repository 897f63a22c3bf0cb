"""What is asked about a set of completions and what comes back: plain values that travel between processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from toolkit.errors import ToolkitError
from toolkit.text.answer import final_answer, reference_answer, same_answer
from toolkit.text.diversity import compression_ratio, distinct_ngrams, repetitive, unique_texts
from toolkit.text.reasoning import complete, reasoning, steps, unsupported

Question: TypeAlias = dict[str, Any]
"""The texts of one set, under `set`, or one completion with what belongs to it."""

Values: TypeAlias = Mapping[str, Any]
"""The answer to a question: a number or a pair by name. What could not be found in time is not there."""

SETS = ("distinct_1", "distinct_2", "unique")
"""Pairs (distinct, all), summed over the sets: divide last."""
TEXT = ("repetitive", "compression_ratio")
TASK = ("answer_correct", "reasoning_complete", "unsupported")


@dataclass(frozen=True)
class Request:
    """Completions, and the prompt and reference of each where there are some.

    `families` are `text`, how much completions repeat, and `task`, whether they solve it. `groups` says which
    completions are of one prompt; by default those with equal prompts, or all of them.
    """

    completions: Sequence[str]
    prompts: Sequence[str] | None = None
    references: Sequence[str | None] | None = None
    groups: Sequence[int] | None = None
    families: Collection[str] = ("text", "task")
    reasoning_tag: str = "reasoning"
    answer_tag: str = "answer"

    def __post_init__(self) -> None:
        for name in ("prompts", "references", "groups"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.completions):
                raise ToolkitError(f"{len(column)} {name} for {len(self.completions)} completions: give one for each")


def questions(request: Request) -> list[Question]:
    """One question a set, if the text family is wanted, and then one a completion."""
    nothing = [None] * len(request.completions)
    single = [
        {
            "completion": completion,
            "prompt": prompt,
            "reference": reference,
            "families": list(request.families),
            "reasoning_tag": request.reasoning_tag,
            "answer_tag": request.answer_tag,
        }
        for completion, prompt, reference in zip(
            request.completions, request.prompts or nothing, request.references or nothing, strict=True
        )
    ]
    return [{"set": texts} for texts in _sets(request)] + single


def _sets(request: Request) -> list[list[str]]:
    if "text" not in request.families:
        return []
    sets: dict[Any, list[str]] = {}
    columns = (request.groups, request.prompts, [0] * len(request.completions))
    of_one_prompt = next(column for column in columns if column is not None)
    for group, completion in zip(of_one_prompt, request.completions, strict=True):
        sets.setdefault(group, []).append(completion)
    return list(sets.values())


def quantities(question: Question) -> dict[str, Callable[[], Any]]:
    """What a question asks for, by name, each still to be found: any of them can take its time or fail on its own."""
    if "set" in question:
        texts: list[str] = question["set"]
        return {
            "distinct_1": lambda: distinct_ngrams(texts, 1),
            "distinct_2": lambda: distinct_ngrams(texts, 2),
            "unique": lambda: unique_texts(texts),
        }
    found: dict[str, Callable[[], Any]] = {}
    completion: str = question["completion"]
    if "text" in question["families"]:
        found["repetitive"] = lambda: float(repetitive(completion))
        found["compression_ratio"] = lambda: compression_ratio(completion)
    return found | _judgements(question) if "task" in question["families"] else found


def _judgements(question: Question) -> dict[str, Callable[[], float]]:
    completion, prompt, reference = question["completion"], question["prompt"], question["reference"]
    thought = reasoning(completion, question["reasoning_tag"], question["answer_tag"])
    answer = final_answer(completion, question["answer_tag"])
    found: dict[str, Callable[[], float]] = {}
    if prompt is not None:
        found["unsupported"] = lambda: unsupported(thought, prompt)
    if reference is not None:
        wanted = reference_answer(reference, question["answer_tag"])
        if steps(reference):
            found["reasoning_complete"] = lambda: float(complete(thought, answer, reference))
        # Last, because it may use up the time.
        found["answer_correct"] = lambda: float(answer is not None and same_answer(answer, wanted))
    return found


def evaluation(request: Request, answers: Iterable[Values]) -> dict[str, Any]:
    """The answers to all questions of a request as one result.

    A list with a number for each completion under each name in `TEXT` and `TASK`, NaN where it was not judged, and a
    pair under each name in `SETS`. Names of families that were not asked for are left out.
    """
    every = list(answers)
    sets, single = every[: len(every) - len(request.completions)], every[len(every) - len(request.completions) :]
    result: dict[str, Any] = {}
    if "text" in request.families:
        for name in SETS:
            pairs = [values[name] for values in sets if name in values]
            result[name] = (sum(distinct for distinct, _ in pairs), sum(count for _, count in pairs))
    for name in (*(TEXT if "text" in request.families else ()), *(TASK if "task" in request.families else ())):
        result[name] = [float(values.get(name, math.nan)) for values in single]
    return result
