"""The key-value store of a group of processes, for tests in which these are threads of one."""

import threading


class Shelf:
    """The store of a group, in this process; a place can be filled once by `claim`."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.changed = threading.Condition()

    def put(self, key: str, text: str) -> None:
        with self.changed:
            self.texts[key] = text
            self.changed.notify_all()

    def find(self, key: str) -> str | None:
        return self.texts.get(key)

    def claim(self, key: str, text: str) -> str:
        with self.changed:
            there = self.texts.setdefault(key, text)
            self.changed.notify_all()
        return there

    def awaited(self, key: str, seconds: float) -> str | None:
        with self.changed:
            self.changed.wait_for(lambda: key in self.texts, seconds)
        return self.find(key)

    def forget(self, key: str) -> None:
        del self.texts[key]
