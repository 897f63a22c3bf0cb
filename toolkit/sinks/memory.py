"""Records kept in memory: the public fake for tests, ours and yours."""

from collections.abc import Sequence

from toolkit.record import Record, Value


class MemorySink:
    """Keeps every record in `records`, in order; `closed` says whether it was closed."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.closed = False

    def write(self, records: Sequence[Record]) -> None:
        """Keep the records."""
        self.records.extend(records)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def series(self, key: str, stream: str = "train") -> list[tuple[int, Value]]:
        """The (policy step, value) pairs logged under `key` in `stream`."""
        rows = (record for record in self.records if record.stream == stream)
        return [(record.policy_step, record.values[key]) for record in rows if key in record.values]
