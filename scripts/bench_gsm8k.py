"""The text statistics on real solutions of GSM8K: agreement with the data set's verdicts, slips, and what it takes.

The file is `example_model_solutions.jsonl` of github.com/openai/grade-school-math.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.text.arithmetic import equations
from toolkit.text.evaluation import Request
from toolkit.text.process import TextProcess


@dataclass(frozen=True)
class Solution:
    """One solution: the problem, the reference, the text, and whose it is: the reference, right or wrong."""

    prompt: str
    reference: str
    text: str
    label: str


def main() -> None:
    """Print a table, and every false equation if asked."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("path", type=Path)
    arguments.add_argument("--slips", action="store_true", help="print each false equation with its line")
    options = arguments.parse_args()
    solutions = read(options.path)
    print("label      solutions  equations  false  share   with one  correct  complete  unsupported")
    process = TextProcess(deadline_s=300)
    for label in ("reference", "right", "wrong"):
        table_row(label, [solution for solution in solutions if solution.label == label], process)
    cost(solutions, process)
    process.close()
    if options.slips:
        print_slips(solutions)


def read(path: Path) -> list[Solution]:
    """The reference and every model's solution of each problem."""
    found = []
    for line in path.read_text().splitlines():
        problem = json.loads(line)
        prompt, reference = problem["question"], problem["ground_truth"]
        found.append(Solution(prompt, reference, reference, "reference"))
        for value in problem.values():
            if isinstance(value, dict):
                label = "right" if value["is_correct"] else "wrong"
                found.append(Solution(prompt, reference, value["solution"], label))
    return found


def table_row(label: str, solutions: Sequence[Solution], process: TextProcess) -> None:
    """Print the counts and means of the solutions with one label."""
    holds = [[equation.holds for equation in equations(solution.text)] for solution in solutions]
    every, false = sum(map(len, holds)), sum(row.count(False) for row in holds)
    with_one = sum(False in row for row in holds) / len(holds)
    result = process.evaluate(request(solutions))
    means = [mean(result[name]) for name in ("answer_correct", "reasoning_complete", "unsupported")]
    print(
        f"{label:9}  {len(solutions):9}  {every:9}  {false:5}  {false / every:6.2%}  {with_one:7.1%}  "
        f"{means[0]:7.1%}  {means[1]:8.1%}  {means[2]:11.1%}"
    )


def request(solutions: Sequence[Solution]) -> Request:
    """Everything about the solutions."""
    return Request(
        [solution.text for solution in solutions],
        [solution.prompt for solution in solutions],
        [solution.reference for solution in solutions],
    )


def mean(values: Sequence[float]) -> float:
    """The mean of what was judged."""
    judged = [value for value in values if not math.isnan(value)]
    return sum(judged) / len(judged)


def cost(solutions: Sequence[Solution], process: TextProcess) -> None:
    """Print what a batch of 128 takes: of the child's time, and of this thread's processor."""
    batch = request(solutions[:128])
    walls, own = [], []
    for _ in range(10):
        wall, thread = time.perf_counter(), time.thread_time()
        process.evaluate(batch)
        walls.append(time.perf_counter() - wall)
        own.append(time.thread_time() - thread)
    print(f"128 solutions: {sorted(walls)[5]:.3f} s in the child, {sorted(own)[5] * 1000:.1f} ms of the calling thread")


def print_slips(solutions: Sequence[Solution]) -> None:
    """Print each false equation and the line that it stands on."""
    for solution in solutions:
        for equation in equations(solution.text):
            if not equation.holds:
                start = solution.text.rfind("\n", 0, equation.start) + 1
                line = solution.text[start:].partition("\n")[0]
                print(f"{solution.label:9}  {solution.text[equation.start : equation.end]}\n           {line}")


if __name__ == "__main__":
    main()
