"""Events: the listener gets them all, and cannot change what happened."""

from datetime import UTC, datetime

import pytest

from sessioncore import EventKind, SessionEvent
from sessioncore._events import Events


def test_each_listener_gets_each_event_with_the_time_of_the_store_even_if_one_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first: list[SessionEvent] = []
    last: list[SessionEvent] = []

    def fail(_: SessionEvent) -> None:
        raise ZeroDivisionError("a fault of the listener")

    Events([first.append, fail, last.append], lambda: 86400.5).send(EventKind.CONFLICT, "handle", "ada", "2")
    moment = datetime(1970, 1, 2, 0, 0, 0, 500000, tzinfo=UTC)
    assert first == last == [SessionEvent(EventKind.CONFLICT, "handle", "ada", "2", moment)]
    assert "on_event raised for a 'conflict' event" in caplog.text
    assert "a fault of the listener" in caplog.text


def test_a_kind_is_text_in_a_log_line_a_label_and_a_comparison() -> None:
    kind = EventKind.CREATED
    assert (str(kind), f"{kind}", "%s" % kind, kind.value) == ("created",) * 4  # noqa: UP031 - as logging does it
    assert {str(kind): 1}[kind] == 1


def test_without_a_listener_not_even_the_clock_is_asked() -> None:
    def broken() -> float:
        raise AssertionError

    Events([], broken).send(EventKind.CREATED)


def test_cancellation_passes_through_a_listener() -> None:
    def leave(_: SessionEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Events([leave], lambda: 0.0).send(EventKind.GONE)
