"""Where the processes of a run find each other: the key-value store that their own group was made with."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from datetime import timedelta
from typing import Any, Protocol

from toolkit.processes import jax_group, torch_group


class Store(Protocol):
    """A few texts by key, the same for all processes; every method may raise what the group's library raises."""

    host: str
    """A name of the machine that runs process 0, by which all others reach it."""

    def put(self, key: str, text: str) -> None:
        """Store the text."""

    def find(self, key: str) -> str | None:
        """The text, or None while there is none; never waits for it."""

    def claim(self, key: str, text: str) -> str:
        """Store the text unless there is one; the text that all processes find there from now on."""

    def awaited(self, key: str, seconds: float) -> str | None:
        """The text as soon as there is one, None where none came in so many seconds."""

    def forget(self, key: str) -> None:
        """Remove the text; nobody asks for it any more."""


class TorchStore:
    """The store of `torch.distributed`'s default group."""

    def __init__(self, distributed: Any) -> None:
        self.host = os.environ.get("MASTER_ADDR") or socket.gethostname()
        # There is no public way to it; a store of our own would need an address of its own.
        self._store = distributed.distributed_c10d._get_default_store()

    def put(self, key: str, text: str) -> None:
        """Store the text."""
        self._store.set(key, text)

    def find(self, key: str) -> str | None:
        """The text, or None."""
        # `get` would wait, and keep the store from the training thread while it does.
        return self._store.get(key).decode() if self._store.check([key]) else None

    def claim(self, key: str, text: str) -> str:
        """Store the text unless there is one; the text that is there."""
        there: str = self._store.compare_set(key, "", text).decode()
        if there == text:  # not every kind of store wakes by the first call those who wait
            self._store.set(key, text)
        return there

    def awaited(self, key: str, seconds: float) -> str | None:
        """The text, or None; other threads of this process cannot ask the store until then."""
        # That the time is over is an error of its own kind in newer versions, a RuntimeError as any other before. Less
        # than a millisecond would be for ever.
        with suppress(RuntimeError):
            self._store.wait([key], timedelta(seconds=max(seconds, 0.001)))
        return self.find(key)

    def forget(self, key: str) -> None:
        """Remove the text."""
        self._store.delete_key(key)


class JaxStore:
    """The store of JAX's coordination service."""

    def __init__(self, state: Any) -> None:
        self.host = str(state.coordinator_address).rpartition(":")[0].strip("[]")
        self._client = state.client

    def put(self, key: str, text: str) -> None:
        """Store the text."""
        self._client.key_value_set(key, text, allow_overwrite=True)

    def find(self, key: str) -> str | None:
        """The text, or None."""
        try:
            return str(self._client.key_value_try_get(key))
        except RuntimeError as error:  # JAX says by an error that a key is not there
            if "NOT_FOUND" in str(error):
                return None
            raise

    def claim(self, key: str, text: str) -> str:
        """Store the text unless there is one; the text that is there."""
        try:
            self._client.key_value_set(key, text, allow_overwrite=False)
        except RuntimeError as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
        return str(self._client.key_value_try_get(key))

    def awaited(self, key: str, seconds: float) -> str | None:
        """The text, or None."""
        try:
            return str(self._client.blocking_key_value_get(key, int(seconds * 1000)))
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                return self.find(key)  # in no time it finds nothing, whatever is there
            raise

    def forget(self, key: str) -> None:
        """Remove the text."""
        self._client.key_value_delete(key)


def store() -> Store | None:
    """The store of the group that this process belongs to; None without one."""
    if (distributed := torch_group()) is not None:
        return TorchStore(distributed)
    state = jax_group()
    return None if state is None else JaxStore(state)
