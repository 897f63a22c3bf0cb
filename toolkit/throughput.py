"""Throughput: how much a step holds over how long it took, as a whole and by phase."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real

from toolkit.record import Value


def rates(
    values: Mapping[str, Value],
    step_s: float | None,
    timings: Mapping[str, float] | None = None,
    passes_a_step: float = 1.0,
) -> dict[str, Value]:
    """The values of a step with a rate beside each amount of `throughput/`.

    `throughput/tokens` gives `throughput/tokens_per_s` over the step, and over each phase that is timed, such as
    `throughput/generation_tokens_per_s`. A step trains `passes_a_step` times on each of them: on a half where a
    generation serves two steps.
    """
    found = dict(values)
    for key, amount in values.items():
        if key.startswith("throughput/") and isinstance(amount, float) and step_s:
            found[f"{key}_per_s"] = amount / step_s
    tokens = values.get("throughput/tokens")
    for phase, passes in (("generation", 1.0), ("train", passes_a_step)):
        seconds = (timings or {}).get(f"{phase}_s")
        if isinstance(tokens, float) and isinstance(seconds, Real) and seconds:
            found[f"throughput/{phase}_tokens_per_s"] = passes * tokens / seconds
    return found
