"""Every interleaving of two requests of one browser, with up to two operations each (P1 to P4).

There are 2,628 pairs of programs. `make test` plays some of them in every order in which their storage calls can take
effect, and fewer of them with replies, that is, so that another request may act before each reply. `make test-full`
plays every pair with replies (half a million schedules, some minutes), which includes all orders of effects.

The requests are asyncio tasks on an event loop of the tests' own (`hand_loop`); other tests use trio.

A failure names its schedule; `replay(Meeting(Site(replies=...), one, two), "ABBA")` plays it again.
"""

from collections.abc import Iterable
from itertools import combinations_with_replacement

import pytest
from tests.interleavings.explore import explore, replay
from tests.interleavings.full import FOLLOWS, FULL, PATIENT, some
from tests.interleavings.programs import Meeting, Program, Site, programs

pytestmark = PATIENT

PROGRAMS = programs(1, 2)
PAIRS = list(combinations_with_replacement(PROGRAMS, 2))
PLAYED = some(PAIRS, 23)
WITHOUT_EXPIRY = [(one, two) for one, two in PAIRS if "expire" not in one + two]
PLAYED_WITH_A_STRANGER = some(WITHOUT_EXPIRY, 61)  # an expiry would also end the other visitor's session
PARTS = 24 if FULL else 1


def play(pairs: Iterable[tuple[Program, Program]], *, replies: bool, follows: bool) -> int:
    site = Site(follows=follows, replies=replies)
    limit = 100 if replies and not FULL else None
    return sum(
        explore(Meeting(site, one, two, follows=follows), mirrored=one == two, limit=limit) for one, two in pairs
    )


@pytest.mark.proves("P2", "P4", "AT-39", "AT-40", "AT-42", "AT-45", "AT-47")
@pytest.mark.skipif(FULL, reason="the test below plays the same and more")
@pytest.mark.parametrize("follows", FOLLOWS)
def test_two_requests_in_every_order_of_their_calls_agree_with_the_model(follows: bool) -> None:
    assert play(PLAYED, replies=False, follows=follows) > 800


@pytest.mark.parametrize("follows", FOLLOWS)
@pytest.mark.parametrize("part", range(PARTS))
def test_two_requests_whose_replies_are_on_their_way_agree_with_the_model(part: int, follows: bool) -> None:
    assert play(some(PAIRS, 197)[part::PARTS], replies=True, follows=follows) > 0


@pytest.mark.proves("P1", "AT-54")
def test_an_id_that_is_taken_is_given_to_nobody_else_in_any_order() -> None:
    site = Site(taken=True)
    for one, two in PLAYED_WITH_A_STRANGER:
        explore(Meeting(site, one, two), mirrored=one == two)


def test_a_schedule_that_a_failure_named_can_be_played_again() -> None:
    meeting = Meeting(Site(), ("set",), ("regenerate",))
    for schedule in ("ABA", "ABB"):
        replay(meeting, schedule)
        committed = [action.actor for action in meeting.site.actions if action.verb == "commit"]
        assert committed == sorted(committed, reverse=schedule == "ABB")
