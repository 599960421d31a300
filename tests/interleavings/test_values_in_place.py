"""Values that change in place: two requests that update one list, and two tasks of one request beside another request.

A `mutate` is applied to what the others have stored; a change in place after it counts as a write of the whole list.
Neither is lost. `make test` plays some programs; `make test-full` plays all of them.
"""

from collections.abc import Coroutine
from itertools import combinations_with_replacement, product
from typing import Any

import pytest
from tests.interleavings.explore import explore
from tests.interleavings.full import FULL, PATIENT, some
from tests.interleavings.programs import Meeting, Program, Site

pytestmark = PATIENT

VERBS = ("append", "amend", "save", "reload")
PROGRAMS: list[Program] = [program for length in (1, 2, 3) for program in product(VERBS, repeat=length)]
PAIRS = list(combinations_with_replacement(PROGRAMS, 2))
SHORT = [(one, two) for one, two in PAIRS if len(one + two) < 5]
PARTS = 6 if FULL else 1
SWITCHES = 3 if FULL else 1


class Lists(Meeting):
    """Two requests with one list."""

    def data(self) -> dict[str, Any]:
        return {"items": ["first"]}


class ListsOfTasks(Lists):
    """Two tasks of one request, and another request that appends to the same list."""

    requests = "RC"

    def begin(self) -> dict[str, Coroutine[Any, Any, None]]:
        self.busy = len(self.programs)
        return {**super().begin(), "C": self.visit()}

    async def prepare(self) -> None:
        await super().prepare()
        self.exchange = await self.arrive("A", "R", self.sid)

    async def play(self, name: str, program: Program) -> None:
        for verb in program:
            await self.site.steps.pause()
            await self.site.act(name, "R", self.exchange, verb, "", self.handle)
        self.busy -= 1
        if not self.busy:
            await self.site.commit(name, "R", self.exchange)
            await self.exchange.finish()

    async def visit(self) -> None:
        exchange = await self.arrive("C", "C", self.sid)
        await self.site.act("C", "C", exchange, "append", "", self.handle)
        await self.site.commit("C", "C", exchange)
        await exchange.finish()


PLAYED = some(PAIRS, 61)
PLAYED_BY_TASKS = some(SHORT, 19)


@pytest.mark.proves("P4")
@pytest.mark.parametrize("part", range(PARTS))
def test_two_requests_that_change_one_list_agree_with_the_model(part: int) -> None:
    site = Site()
    for one, two in PLAYED[part::PARTS]:
        explore(Lists(site, one, two), mirrored=one == two)


@pytest.mark.proves("P4")
@pytest.mark.parametrize("part", range(PARTS))
def test_two_tasks_that_change_one_list_beside_another_request_agree_with_the_model(part: int) -> None:
    site = Site(replies=True)
    for one, two in PLAYED_BY_TASKS[part::PARTS]:
        explore(ListsOfTasks(site, one, two), mirrored=one == two, switches=SWITCHES)
