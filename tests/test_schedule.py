"""Schedules by steps and by seconds."""

from toolkit.schedule import EverySeconds


def test_every_seconds_is_due_at_once_and_then_after_the_wait() -> None:
    """The first call is due; the next one is when the seconds have passed since the last that was."""
    now = [100.0]
    turn = EverySeconds(10.0, clock=lambda: now[0])
    assert turn.due()
    now[0] = 109.9
    assert not turn.due()
    now[0] = 110.0
    assert turn.due()
    assert not turn.due()
