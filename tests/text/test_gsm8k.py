"""On real solutions: 300 problems of GSM8K's test set by four models, with the data set's own verdicts."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from toolkit.text.answer import final_answer, reference_answer, same_answer
from toolkit.text.arithmetic import equations
from toolkit.text.reasoning import complete, reasoning

SOLUTIONS = Path(
    os.environ.get(
        "GSM8K_SOLUTIONS", Path(__file__).parents[2] / ".." / "shared" / "data" / "gsm8k" / "model_solutions.jsonl"
    )
)
pytestmark = pytest.mark.skipif(not SOLUTIONS.exists(), reason=f"needs {SOLUTIONS.name}: set GSM8K_SOLUTIONS to it")


@pytest.fixture(scope="module")
def problems() -> list[dict[str, Any]]:
    return [json.loads(line) for line in SOLUTIONS.read_text().splitlines()]


def solutions(problem: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for value in problem.values() if isinstance(value, dict)]


def test_the_answers_are_judged_as_the_data_set_judges_them(problems: list[dict[str, Any]]) -> None:
    """At least 99.9 % of the verdicts agree."""
    agreed = []
    for problem in problems:
        reference = reference_answer(problem["ground_truth"])
        for solution in solutions(problem):
            answer = final_answer(solution["solution"])
            right = answer is not None and same_answer(answer, reference)
            agreed.append(right == solution["is_correct"])
    assert len(agreed) >= 1200
    assert sum(agreed) / len(agreed) >= 0.999


def test_references_have_next_to_no_false_equation(problems: list[dict[str, Any]]) -> None:
    """People checked them: more than 1 false equation in 500 would be mistakes of the parser."""
    found = [equation.holds for problem in problems for equation in equations(problem["ground_truth"])]
    assert len(found) > 900
    assert found.count(False) <= len(found) / 500


def test_references_are_complete_in_their_own_eyes(problems: list[dict[str, Any]]) -> None:
    """A worked solution has its own steps and ends in its own answer, with a few exceptions of notation."""
    texts = [problem["ground_truth"] for problem in problems]
    whole = [complete(reasoning(text), final_answer(text), text) for text in texts]
    assert sum(whole) / len(whole) > 0.98
