"""What is looked up, and when; without I/O."""

from math import inf
from time import process_time
from typing import Any, cast
from weakref import ref

from sessioncore.live._agenda import Agenda
from sessioncore.live._session_watch import SessionWatch


def watch(key: str) -> SessionWatch:
    nothing = cast("Any", None)
    return SessionWatch(nothing, nothing, nothing, nothing, key, nothing, nothing)


def test_a_key_is_asked_for_once_since_the_first_time() -> None:
    agenda = Agenda()
    agenda.add(watch("a"), 1.0)
    agenda.add(watch("a"), 2.0)
    agenda.add(watch("b"), 3.0)
    agenda.ask("a", 4.0)
    agenda.ask("nobody watches this", 4.0)
    assert agenda.take_asked(1) == {"a": 1.0}
    assert agenda.take_asked(9) == {"b": 3.0}
    agenda.ask_all(5.0)
    assert agenda.asked == {"a": 5.0, "b": 5.0}


def test_a_key_is_unanswered_while_it_waits_is_looked_up_or_the_storage_confirms() -> None:
    agenda, one, two = Agenda(), watch("a"), watch("b")
    agenda.add(one, 1.0)
    agenda.add(two, 2.0)
    taken = agenda.take_asked(1)
    agenda.ask("a", 3.0)
    assert agenda.unanswered() == [(one, 1.0), (two, 2.0)]
    del taken["a"]
    agenda.take_asked(9).clear()
    assert agenda.unanswered() == []
    agenda.confirming_since = 4.0
    assert agenda.unanswered() == [(one, 4.0), (two, 4.0)]


def test_a_new_watch_has_its_key_looked_up_for_itself_alone() -> None:
    agenda = Agenda()
    for number, asked in enumerate(["never", "never", "before", "after"], 1):  # for all watches of the key
        if asked == "before":
            agenda.ask("a", 1.0)
        begun = watch("a")
        agenda.add(begun, 1.0)
        if asked == "after":
            agenda.ask("a", 2.0)
        agenda.take_asked(9)
        found = agenda.take_watches("a")
        assert found == [begun] if asked == "never" else len(found) == number


def test_a_session_that_was_renewed_is_not_looked_up_when_its_former_end_is_due() -> None:
    agenda = Agenda()
    one = watch("a")
    agenda.add(one, 0.0)
    agenda.take_asked(9)
    agenda.set_end(one, 10.0)
    agenda.set_end(one, 20.0)
    agenda.ring(10.0)
    assert (agenda.asked, agenda.next_alarm()) == ({}, 20.0)
    agenda.ring(20.0)
    assert agenda.asked == {"a": 20.0}
    assert agenda.next_alarm() == inf
    agenda.set_end(one, 40.0)  # it was renewed meanwhile
    agenda.set_end(one, 30.0)  # by another request, with a shorter timeout
    assert agenda.next_alarm() == 30.0
    agenda.take_asked(9)
    agenda.ring(30.0)
    assert agenda.take_asked(9) == {"a": 30.0}
    agenda.ring(40.0)
    assert agenda.asked == {}


def test_what_stays_unanswered_for_too_long_is_given_up_once() -> None:
    agenda, one, two, three = Agenda(), watch("a"), watch("b"), watch("c")
    for began, each in ((0.0, one), (5.0, two), (8.0, three)):
        agenda.add(each, began)
    agenda.set_end(three, 8.5)  # but patience is 1.0
    assert [agenda.give_up(now, 10.0, 1.0) for now in (8.0, 9.0, 10.0, 11.0)] == [
        ([], 9.0), ([three], 10.0), ([one], 15.0), ([], 15.0)
    ]  # fmt: skip


def test_the_alarms_of_connections_that_have_closed_do_not_pile_up() -> None:
    agenda, closing = Agenda(), list[SessionWatch]()
    stays = watch("stays")
    agenda.add(stays, 0.0)
    agenda.set_end(stays, 500.0)
    for number in range(1000):
        short = watch(f"{number}")
        agenda.add(short, 0.0)
        agenda.set_end(short, 1000.0 - number)
        agenda.discard(short)
        closed = ref(short)
        if number % 2:
            closing.append(short)
        del short
        assert closed() is None or number % 2
        assert len(agenda.alarms) < 100
    assert agenda.asked.keys() == agenda.by_key.keys() == {"stays"}
    agenda.take_asked(9)
    agenda.ring(1000.0)
    assert agenda.asked == {"stays": 1000.0}


def test_a_connection_costs_the_same_however_many_there_are() -> None:
    agenda, begin = Agenda(), process_time()
    for number in range(20_000):
        one = watch(f"{number}")
        agenda.add(one, 0.0)
        agenda.set_end(one, 1000.0)
    assert process_time() - begin < 2.0
