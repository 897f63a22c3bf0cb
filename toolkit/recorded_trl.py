"""What of TRL's `completions_*.parquet` is of the training: TRL writes the last completions it has at every log.

Where a step trains on those of an earlier one they are the same again, and after an evaluation they are those of the
evaluation, which look like any others. When there was one stands in the trainer's state, in its checkpoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.errors import ConfigError
from toolkit.own_log import log as _log
from toolkit.recording import Fields, Row, rows_of

_STATES = "checkpoint-*/trainer_state.json"


def training_rows(files: Sequence[Path], fields: Fields) -> Iterator[Row]:
    """The completions of the training, each generation once; says what is left out and what cannot be known."""
    directory = files[0].absolute().parent
    state = _newest_state(directory.parent)
    evaluated = {0, *(entry["step"] for entry in state["log_history"] if "eval_reward" in entry)}
    left_out = step = 0
    for rows in _generations(files, fields):
        step = rows[0].step
        if step in evaluated:
            left_out += 1
        else:
            yield from rows
    if left_out:
        _log.warning("%s: left out %d files that hold completions of an evaluation", directory, left_out)
    if step > state["global_step"]:
        _log.warning(
            "%s: no ../%s tells of evaluations after step %d: if there were any, their completions are measured as the "
            "training's",
            directory,
            _STATES,
            state["global_step"],
        )


def _generations(files: Sequence[Path], fields: Fields) -> Iterator[list[Row]]:
    """The rows of each file that has others than the file before."""
    before: list[Row] = []
    for file in files:
        rows = list(rows_of(file, "trl", fields))
        content = [replace(row, where="", step=0) for row in rows]
        if content and content != before:
            yield rows
        before = content


def _newest_state(output_dir: Path) -> dict[str, Any]:
    """The state of the last checkpoint; without one, that of a training that has not begun."""
    states = map(_state, output_dir.glob(_STATES))
    return max(states, key=lambda state: state["global_step"], default={"global_step": 0, "log_history": []})


def _state(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(file.read_bytes())  # not orjson: a loss may be NaN
        return {name: state[name] for name in ("global_step", "log_history")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file}: expected the state of a trainer: {error!r}. Move this checkpoint away") from error
