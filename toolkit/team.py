"""The processes of one run: each but process 0 sends it what it measured, over a connection that is ours alone.

Nothing here runs on a training thread or in the group's collectives, so no process can be held up by another: one that
dies, hangs or has nothing to tell is missing from the rows of process 0, which says so.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any, Protocol, TypeAlias

from toolkit.complaints import Complaints
from toolkit.errors import ToolkitError
from toolkit.processes import is_main, process_count, process_index
from toolkit.rendezvous import Store, store
from toolkit.settings.processes import Processes

Order: TypeAlias = tuple[int, int]
"""How often the steps began anew, and the step: what comes later is larger, on every process alike."""

_BACKLOG = 256
"""Contributions that are kept of a process, or for one, that is behind: some 50 KB each."""

_numbers = itertools.count()
"""Observers are made in the same order in all processes of a run, so their number is a name for each."""

_Connection: TypeAlias = "Connection[Any, Any]"

_BROKEN = (OSError, EOFError, AuthenticationError)
"""What a connection raises that ended, was held up, or is a stranger's."""


class Team(Protocol):
    """What a process needs of the others."""

    alive: bool
    """Whether it is of use to measure anything."""

    def gathered(self, step: int, own: Any) -> Sequence[Any]:
        """The contributions of all processes to a step, the own first; in all processes but the first, none."""

    def close(self) -> None:
        """End the connections."""


def team(settings: Processes, complaints: Complaints) -> Team | None:
    """This process's place among those of its group; None where it is alone or they are not to be merged."""
    if not settings.enabled or process_count() == 1 or (found := store()) is None:
        return None
    key = f"toolkit/observer/{next(_numbers)}"
    if not is_main():
        return Contributor(found, key, process_index(), settings.wait_s, complaints)
    try:
        return Collector(found, key, process_count(), settings.wait_s, complaints)
    except Exception as error:  # whatever the network or the group's store refuses: the own rows are still right
        complaints.add("the rows of all other processes", error)
        return None


class _Steps:
    """Turns steps into orders: a training that begins again in the same process starts from a smaller step."""

    def __init__(self) -> None:
        self._last: Order = (0, -1)

    def order(self, step: int) -> Order:
        begun, last = self._last
        self._last = (begun + (step < last), step)
        return self._last


class _Peer:
    """What came from one other process. `patience` is how long it is waited for, in seconds."""

    def __init__(self, patience: float) -> None:
        self.arrived: deque[tuple[Order, Any]] = deque(maxlen=_BACKLOG)
        self.patience = patience
        self.ended = False

    def reached(self, order: Order) -> bool:
        """Whether there is nothing more to wait for; what is too late is dropped."""
        while self.arrived and self.arrived[0][0] < order:
            self.arrived.popleft()
        return bool(self.arrived) or self.ended

    def taken(self, order: Order) -> list[Any]:
        """The contribution to this step, if there is one."""
        return [self.arrived.popleft()[1]] if self.arrived and self.arrived[0][0] == order else []


class Collector:
    """Process 0: takes in what the others send. `gathered` is for one worker thread.

    A process that is silent is waited for `wait_s` seconds, and a quarter as long each next time, until it is in time
    again: all waits for one that hangs come to 4/3 of that. One whose connection ended is not waited for.
    """

    def __init__(self, found: Store, key: str, count: int, wait_s: float, complaints: Complaints) -> None:
        self.alive = True
        self._wait_s = wait_s
        self._complaints = complaints
        self._peers = {index: _Peer(wait_s) for index in range(1, count)}
        self._steps = _Steps()
        self._changed = threading.Condition()
        self._secret = os.urandom(32)
        self._server = _listening(found.host)
        host, port = self._server.getsockname()[:2]
        found.put(key, json.dumps({"host": host, "port": port, "secret": self._secret.hex()}))
        threading.Thread(target=self._welcome, name="toolkit-processes", daemon=True).start()

    def gathered(self, step: int, own: Any) -> list[Any]:
        """The contributions that there are to a step, in the order of the processes."""
        order, began = self._steps.order(step), time.monotonic()
        theirs = [self._of_peer(index, peer, order, began) for index, peer in self._peers.items()]
        return [own, *itertools.chain.from_iterable(theirs)]

    def close(self) -> None:
        """Take in no more."""
        self.alive = False
        with contextlib.suppress(OSError):  # it may be closed already; a thread that waits in it wakes up
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _of_peer(self, index: int, peer: _Peer, order: Order, began: float) -> list[Any]:
        with self._changed:
            left = began + peer.patience - time.monotonic()
            reached = self._changed.wait_for(lambda: peer.reached(order), max(0.0, left))
            found = peer.taken(order)
        if found:
            peer.patience = self._wait_s
        elif peer.ended or not reached:
            self._miss(index, peer)
        return found

    def _miss(self, index: int, peer: _Peer) -> None:
        why = "it ended, or closed its observer" if peer.ended else f"nothing came from it for {self._wait_s:g} s"
        peer.patience /= 4
        total = len(self._peers) + 1
        self._complaints.add(
            f"the rows of process {index}",
            ToolkitError(f"{why}; `observer/processes` says how many of {total} processes each row is of"),
        )

    def _welcome(self) -> None:
        while True:
            try:
                accepted, _ = self._server.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._listen, args=(accepted,), name="toolkit-process", daemon=True).start()

    def _listen(self, accepted: socket.socket) -> None:
        with _connection(accepted, self._wait_s) as connection:
            try:
                deliver_challenge(connection, self._secret)
                answer_challenge(connection, self._secret)
                peer = self._peers[connection.recv()]
            except _BROKEN:  # a stranger, or one that died on its way in
                return
            try:
                self._take_in(peer, connection)
            except _BROKEN:
                with self._changed:
                    peer.ended = True
                    self._changed.notify()

    def _take_in(self, peer: _Peer, connection: _Connection) -> None:
        _set_timeout(connection, 0.0)  # a step may take any time
        while True:
            contribution = connection.recv()
            with self._changed:
                peer.arrived.append(contribution)
                self._changed.notify()


class Contributor:
    """Any other process: sends process 0 what it measured. `gathered` is for one worker thread.

    It never waits for process 0 to be there, and at most `wait_s` for it to take a contribution. When process 0 is
    gone, that is said once and nothing is measured any more.
    """

    def __init__(self, found: Store, key: str, index: int, wait_s: float, complaints: Complaints) -> None:
        self.alive = True
        self._store = found
        self._key = key
        self._index = index
        self._wait_s = wait_s
        self._complaints = complaints
        self._steps = _Steps()
        self._waiting: deque[tuple[Order, Any]] = deque(maxlen=_BACKLOG)
        self._connection: _Connection | None = None

    def gathered(self, step: int, own: Any) -> list[Any]:
        """Send the own contribution; there are no others here."""
        self._waiting.append((self._steps.order(step), own))
        try:
            self._send()
        except Exception as error:  # whatever the network or the group's store raises, the training goes on
            self._give_up(f"{type(error).__name__}: {error}")
        return []

    def close(self) -> None:
        """End the connection, by which process 0 knows that no more is to come."""
        if self._waiting and self.alive:
            self._give_up("it made no observer")
        self.alive = False
        if self._connection is not None:
            self._connection.close()

    def _send(self) -> None:
        if self._connection is None and (text := self._store.find(self._key)) is not None:
            self._connection = self._connected(json.loads(text))
        while self._connection is not None and self._waiting:
            self._connection.send(self._waiting.popleft())

    def _connected(self, address: dict[str, Any]) -> _Connection:
        secret = bytes.fromhex(address["secret"])
        reached = socket.create_connection((address["host"], address["port"]), self._wait_s)
        connection = _connection(reached, self._wait_s)
        answer_challenge(connection, secret)
        deliver_challenge(connection, secret)
        connection.send(self._index)
        return connection

    def _give_up(self, why: str) -> None:
        self.alive = False
        self._waiting.clear()
        self._complaints.add(
            f"what process {self._index} measures",
            ToolkitError(f"process 0 cannot be reached: {why}. Training goes on"),
        )


def _listening(host: str) -> socket.socket:
    """A server at the address by which the group reaches this machine, or where that is another's, at its own name."""
    try:
        return _server(host)
    except OSError:
        return _server(socket.gethostname())


def _server(host: str) -> socket.socket:
    family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, 0), family=family, backlog=1024)


def _connection(of: socket.socket, timeout_s: float) -> _Connection:
    """The socket as a connection that carries objects; it raises `OSError` when it is held up for `timeout_s`."""
    of.settimeout(None)
    of.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = Connection(of.detach())
    _set_timeout(connection, timeout_s)
    return connection


def _set_timeout(connection: _Connection, seconds: float) -> None:
    """Limit each wait of reading and writing; 0 is no limit."""
    spelled = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
    with socket.socket(fileno=os.dup(connection.fileno())) as of:
        of.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, spelled)
        of.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, spelled)
