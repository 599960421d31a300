"""Two tasks of one request that use the same session, and a device elsewhere that may end it, in every interleaving.

Here the other task may act before each verb, because the tasks share the session's state in memory, and before
each reply. `make test` plays some pairs; `make test-full` plays all of them.
"""

from collections.abc import Coroutine
from itertools import combinations_with_replacement, product
from typing import Any

import pytest
from msgspec.structs import replace
from tests.interleavings.explore import explore
from tests.interleavings.full import FULL, PATIENT, some
from tests.interleavings.model import Action, Kept, Request, World
from tests.interleavings.programs import Program, Race, Site

pytestmark = PATIENT

VERBS = ("set", "mutate", "regenerate", "login", "destroy", "save")
PROGRAMS: list[Program] = [program for length in (1, 2) for program in product(VERBS, repeat=length)]
PAIRS = list(combinations_with_replacement(PROGRAMS, 2))
PLAYED = some(PAIRS, 31)
PARTS = 6 if FULL else 1


class OneRequest(Race):
    """One exchange in two tasks; the one that ends last sends the response, unless a program has `commit`."""

    def __init__(self, site: Site, one: Program, two: Program, *, fresh: bool = False, revoked: bool = False) -> None:
        super().__init__(site, one, two)
        self.fresh = fresh
        self.revoked = revoked
        self.commits = "commit" in one + two

    def __repr__(self) -> str:
        return f"{'fresh' if self.fresh else 'live'}, {super().__repr__()}{' and C: revoke' if self.revoked else ''}"

    async def prepare(self) -> None:
        if not self.fresh:
            await self.store_one()
        self.exchange = await self.arrive("A", "R", None if self.fresh else self.sid)

    def begin(self) -> dict[str, Coroutine[Any, Any, None]]:
        self.busy = len(self.programs)
        return {**super().begin(), **({"C": self._device()} if self.revoked else {})}

    async def play(self, name: str, program: Program) -> None:
        site = self.site
        for verb in program:
            await site.steps.pause()
            if verb == "commit":
                await site.commit(name, "R", self.exchange)
            else:
                await site.act(name, "R", self.exchange, verb, "ada", self.handle)
        self.busy -= 1
        if not self.busy:
            if not self.commits:
                await site.commit(name, "R", self.exchange)
            with site.action(name, "R", "finish") as action:
                site.gone.discard(name)
                await self.exchange.finish()
                action.result = None, name in site.gone

    async def _device(self) -> None:
        await self.site.act("C", "R", self.exchange, "revoke", "", self.handle)

    def check(self) -> None:
        site = self.site
        found = site.found()
        told = [action.result[0] for action in site.actions if action.verb == "commit"]
        if told[0]:
            destroyed = any(action.verb == "destroy" for action in site.actions) or self.revoked
            assert told[0] in found or destroyed, "the client was sent the ID of no session"
        live = {} if self.fresh else {self.sid: Kept(self.data())}
        request = Request(None if self.fresh else self.sid)
        world = World(False, live, {"R": request}, {self.handle: self.sid}, named=False)
        # destroy() happens at two moments: what another task writes while it awaits the storage is discarded as well.
        actions: list[Action] = []
        for action in site.actions:
            if action.verb == "destroy":
                actions += [replace(action, verb=f"destroy, in the {where}") for where in ("storage", "request")]
            else:
                actions.append(action)
        self.explain(world, found, actions)


def play(pairs: list[tuple[Program, Program]], *, fresh: bool = False, revoked: bool = False) -> None:
    site = Site(replies=True)
    for one, two in pairs:
        explore(OneRequest(site, one, two, fresh=fresh, revoked=revoked), mirrored=one == two)


@pytest.mark.proves("P4", "AT-51")
@pytest.mark.parametrize("fresh", [False, True], ids=["of a session that is stored", "of a fresh session"])
@pytest.mark.parametrize("part", range(PARTS))
def test_two_tasks_of_one_request_agree_with_the_model(part: int, fresh: bool) -> None:
    play(PLAYED[part::PARTS], fresh=fresh)


@pytest.mark.parametrize("part", range(PARTS))
def test_two_tasks_agree_with_the_model_while_another_device_revokes_their_session(part: int) -> None:
    play(some([(one, two) for one, two in PAIRS if len(one + two) < 4], 37)[part::PARTS], revoked=True)


@pytest.mark.parametrize("fresh", [False, True], ids=["of a session that is stored", "of a fresh session"])
@pytest.mark.parametrize("part", range(PARTS))
def test_a_task_that_goes_on_while_the_response_starts_agrees_with_the_model(part: int, fresh: bool) -> None:
    pairs: list[tuple[Program, Program]] = [(("commit",), program) for program in PROGRAMS]
    pairs += [((verb, "commit"), program) for verb in VERBS for program in PROGRAMS]
    play(some(pairs, 17)[part::PARTS], fresh=fresh)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_first_write_is_refused_after_the_response_has_started_also_behind_a_regenerate(fresh: bool) -> None:
    explore(OneRequest(Site(replies=True), ("regenerate", "commit"), ("destroy", "set"), fresh=fresh))
