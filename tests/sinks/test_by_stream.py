"""A sink a stream."""

from toolkit.record import Record
from toolkit.sinks.by_stream import ByStream
from toolkit.sinks.memory import MemorySink


def test_a_stream_with_a_sink_of_its_own_goes_there_and_nowhere_else() -> None:
    """Named streams are separated, all others share the rest, and closing closes all."""
    samples, rest = MemorySink(), MemorySink()
    sink = ByStream({"samples": samples}, rest)
    for stream in ("train", "samples", "mine"):
        sink.write([Record(stream, 0, 0, 0.0, {})])
    sink.close()
    assert [record.stream for record in samples.records] == ["samples"]
    assert [record.stream for record in rest.records] == ["train", "mine"]
    assert samples.closed
    assert rest.closed
