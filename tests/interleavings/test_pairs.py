"""Every interleaving of two requests of one browser, with up to two operations each (P1 to P4).

2,628 pairs of programs of one or two operations. `make test` plays every tenth of them in every order
in which its storage calls can take effect (3,000 schedules), and every hundredth pair with each
reply as a switch point of its own. With SESSIONCORE_TEST_FULL=1 in the environment every pair is
played with its replies (half a million schedules, some minutes): that holds all orders of effects, too.

The one event loop is asyncio's tasks on a loop of the tests' own (`hand_loop`); trio is left to other tests.

A failure names its schedule; `replay(Meeting(Site(replies=...), one, two), "ABBA")` plays it again.
"""

from itertools import combinations_with_replacement

import pytest
from tests.interleavings.explore import explore, replay
from tests.interleavings.full import FOLLOWS, FULL
from tests.interleavings.programs import Meeting, Program, Site, programs

pytestmark = pytest.mark.timeout(900)  # a busy machine is no defect; see full.py for how much is played

PROGRAMS = programs(1, 2)
PAIRS = list(combinations_with_replacement(PROGRAMS, 2))
PARTS = 24


def play(pairs: list[tuple[Program, Program]], *, replies: bool, follows: bool) -> int:
    site = Site(follows=follows, replies=replies)
    return sum(explore(Meeting(site, one, two, follows=follows), mirrored=one == two) for one, two in pairs)


def test_there_are_as_many_pairs_as_the_plan_says() -> None:
    assert len(PROGRAMS) == 72
    assert len(PAIRS) == 2628


@pytest.mark.skipif(FULL, reason="the test below plays the same and more")
@pytest.mark.parametrize("follows", FOLLOWS)
def test_two_requests_in_every_order_of_their_calls_agree_with_the_model(follows: bool) -> None:
    assert play(PAIRS[::10], replies=False, follows=follows) > 2000


@pytest.mark.parametrize("follows", FOLLOWS)
@pytest.mark.parametrize("part", range(PARTS))
def test_two_requests_whose_replies_are_on_their_way_agree_with_the_model(part: int, follows: bool) -> None:
    some = PAIRS[part::PARTS]
    assert play(some if FULL else some[::100], replies=True, follows=follows) > 0


def test_an_id_that_is_taken_is_given_to_nobody_else_in_any_order() -> None:
    pairs = [(one, two) for one, two in PAIRS if "expire" not in one + two]  # else the stranger's session ended, too
    site = Site(taken=True)
    for one, two in pairs if FULL else pairs[::40]:
        explore(Meeting(site, one, two), mirrored=one == two)


def test_a_schedule_that_a_failure_named_can_be_played_again() -> None:
    meeting = Meeting(Site(), ("set",), ("regenerate",))
    replay(meeting, "ABA")
    assert [action.actor for action in meeting.site.actions if action.verb == "commit"] == ["A", "B"]
    replay(meeting, "ABB")
    assert [action.actor for action in meeting.site.actions if action.verb == "commit"] == ["B", "A"]
