"""Two requests with three operations each, and sessions that already have an owner.

There are 131,328 pairs. `make test` draws some pairs and some schedules of each; `make test-full` plays every pair in
three schedules that are drawn, and several hundred pairs in all of their schedules.
"""

import random
from itertools import combinations_with_replacement

import pytest
from tests.interleavings.explore import draw, explore
from tests.interleavings.full import FOLLOWS, FULL, PATIENT, some
from tests.interleavings.programs import Meeting, Program, Site, programs

pytestmark = PATIENT

PROGRAMS = programs(3)
PARTS = 32 if FULL else 1


def some_pairs(seed: str, number: int) -> list[tuple[Program, Program]]:
    lots = random.Random(seed)
    return [(lots.choice(PROGRAMS), lots.choice(PROGRAMS)) for _ in range(number)]


@pytest.mark.parametrize("owner", [None, "ada"])
@pytest.mark.parametrize("follows", FOLLOWS)
def test_three_operations_in_drawn_orders_agree_with_the_model(follows: bool, owner: str | None) -> None:
    site = Site(replies=True, follows=follows)
    for one, two in some_pairs(f"drawn, {owner}", 100 if FULL else 15):
        draw(Meeting(site, one, two, owner=owner, follows=follows), (one, two), 10)


@pytest.mark.proves("P2", "P4")
@pytest.mark.parametrize("owner", [None, "ada"])
@pytest.mark.parametrize("follows", FOLLOWS)
def test_three_operations_in_every_order_of_their_calls_agree_with_the_model(follows: bool, owner: str | None) -> None:
    site = Site(follows=follows)
    for one, two in some_pairs(f"all, {owner}", 300 if FULL else 6):
        explore(Meeting(site, one, two, owner=owner, follows=follows))


@pytest.mark.parametrize("follows", FOLLOWS)
def test_two_operations_on_a_session_that_is_somebodys_agree_with_the_model(follows: bool) -> None:
    """A login as another owner discards the former owner's values, whoever writes meanwhile."""
    short = programs(1, 2)
    pairs = [(one, two) for one in short for two in short if "login" in one + two]
    site = Site(follows=follows)
    for one, two in some(pairs, 101):
        explore(Meeting(site, one, two, owner="ada", follows=follows))


@pytest.mark.skipif(not FULL, reason="some minutes; see make test-full")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("follows", FOLLOWS)
def test_every_pair_of_three_operations_agrees_with_the_model(follows: bool, part: int) -> None:
    site = Site(replies=True, follows=follows)
    for one, two in list(combinations_with_replacement(PROGRAMS, 2))[part::PARTS]:
        draw(Meeting(site, one, two, follows=follows), (one, two), 3)
