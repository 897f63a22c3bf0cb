"""The W&B run behind a run directory: started once, continued by the next process, offline where nothing answers."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, Literal, TypeAlias

import wandb
from pydantic import BaseModel

from toolkit.errors import SinkError, cannot_start
from toolkit.own_log import log as _log

Mode: TypeAlias = Literal["online", "offline"]

_STATE = Path("wandb/run.json")
_STEPS_AHEAD = 1000


class _State(BaseModel):
    id: str
    free_step: int = 0


class Continuity:
    """What the next process needs to continue the same W&B run: its `id`, and the `first_step` that no row has yet.

    W&B drops a row whose step is not beyond all that came before. Steps are reserved in blocks, so that the file is
    written rarely; a killed process leaves a gap in them, which no chart shows.

    Raises:
        OSError: the file in the run directory cannot be read or written.
        SinkError: it is damaged.
    """

    def __init__(self, log_dir: Path) -> None:
        self._path = log_dir / _STATE
        state = self._read() if self._path.exists() else _State(id=secrets.token_hex(4))
        self.id = state.id
        self.first_step = state.free_step
        self._free_step = 0
        self.reserve(self.first_step)

    def reserve(self, step: int) -> None:
        """See to it that a process that starts later begins beyond `step`."""
        if step >= self._free_step:
            self.release(step + _STEPS_AHEAD)

    def release(self, step: int) -> None:
        """Let a process that starts later begin at `step`."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".new")
        draft.write_text(_State(id=self.id, free_step=step).model_dump_json())
        os.replace(draft, self._path)
        self._free_step = step

    def _read(self) -> _State:
        try:
            return _State.model_validate_json(self._path.read_bytes())
        except ValueError:
            raise SinkError(f"sinks.wandb: {self._path} is damaged; delete it to begin a new W&B run") from None


def forget(log_dir: Path) -> None:
    """Let the next start in `log_dir` begin a new W&B run in the same group.

    For a run that goes back to an earlier step, since W&B keeps the rows of the steps that are taken back, and for one
    that is written anew from its journal. What was logged so far stays in its own W&B run.
    """
    (log_dir / _STATE).unlink(missing_ok=True)


def is_begun(log_dir: Path) -> bool:
    """Whether the next start in `log_dir` continues a W&B run."""
    return (log_dir / _STATE).exists()


def started(mode: Mode | None, run_id: str, options: dict[str, Any]) -> wandb.Run:
    """A new W&B run, or one that continues `run_id`; offline where that cannot be reached, which is said once.

    Raises:
        SinkError: W&B refuses these settings, also offline.
    """
    # wandb reports its own errors to its server, and waits for that at exit: 10 s where the server does not answer.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    # Without its information lines wandb does not ask a terminal for a missing key either.
    wandb.setup(wandb.Settings(show_info=False))
    try:
        return wandb.init(mode=mode, id=run_id, resume="allow", **options)
    except Exception as error:  # of several unrelated types
        if mode == "offline":
            raise cannot_start("wandb", error) from error
        return _offline(run_id, options, reason=" ".join(str(error).split()) or repr(error))


def _offline(run_id: str, options: dict[str, Any], reason: str) -> wandb.Run:
    try:
        # The service holds the id of a run that failed to start, so this one gets its own, and is synced to that id.
        run = wandb.init(mode="offline", **options)
    except Exception as error:
        raise cannot_start("wandb", error) from error
    said = "W&B cannot be used now, so the run is kept offline (%s). Upload it later by: %s"
    _log.warning(said, reason, sync_command(run, run_id))
    return run


def sync_command(run: wandb.Run, run_id: str) -> str:
    """The command that uploads what is on this machine; a run that began online is passed over unless asked for."""
    return f"wandb sync --include-online --id {run_id} {Path(run.dir).parent}"
