"""One session per owner: devices that log in, log out and are revoked at the same time, in every interleaving.

Here a login makes several storage calls (write, list, look, end), so it does not happen at one moment and the model
of the other tests does not apply: `check` says what must hold. So many calls have too many orders to play them all.
The tests play those in which an actor is interrupted once (twice, with `make test-full`), and some at random.
"""

from itertools import combinations_with_replacement
from typing import Literal

import pytest
from tests.interleavings.explore import draw, explore
from tests.interleavings.faults import DeleteDoesNothing, Faulty, MoveForgetsTheOwner, MoveLeavesTheOldRecord
from tests.interleavings.full import FULL, PATIENT, some
from tests.interleavings.programs import Program, Race, Site, cookie_of
from tests.views import PlainView

from sessioncore import OwnerLimitReached

pytestmark = PATIENT

Mode = Literal["evict_oldest", "refuse"]

SWITCHES = 2 if FULL else 1
DRAWN = 100 if FULL else 2
PARTS = 3 if FULL else 1
PROGRAMS: list[Program] = [
    ("login",), ("set", "login"), ("login", "set"), ("destroy",), ("destroy", "login"), ("regenerate",), ("set",),
    ("revoke",), ("login", "revoke"), ("bind",), ("bind", "set"),
]  # fmt: skip
PAIRS = [(one, two) for one, two in combinations_with_replacement(PROGRAMS, 2) if {"login", "bind"} & {*one, *two}]
PLAYED = some(PAIRS, 7)


class Devices(Race):
    """Two requests, each with an anonymous session or both with the same one; every login is ada's."""

    def __init__(self, site: Site, one: Program, two: Program, *, mode: Mode, known: bool, shared: bool) -> None:
        super().__init__(site, one, two)
        self.mode = mode
        self.known = known  # ada has a session on a third device
        self.shared = shared  # both requests come from one browser

    def __repr__(self) -> str:
        return f"{self.mode}{', known' * self.known}{', shared' * self.shared}, {super().__repr__()}"

    async def prepare(self) -> None:
        store = self.site.store
        self.sids, self.third = dict[str, str](), ""
        self.outcomes: dict[str, str] = {}
        self.handle = "0" * 64
        if self.known:
            session = await store.create({}, owner="ada")
            self.third, self.handle = session.id, session.handle
        self.site.clock.advance(120)
        for name in self.programs:
            if self.shared and self.sids:
                self.sids[name] = self.sids["A"]
            else:
                self.sids[name] = (await store.create({"device": name})).id

    async def play(self, name: str, program: Program) -> None:
        site = self.site
        exchange = site.store.exchange(PlainView([f"__Host-session_id={self.sids[name]}".encode()]))
        await exchange.load()
        for verb in program:
            if verb == "bind":
                exchange.session.bind_owner("ada")
            else:
                await site.act(name, name, exchange, verb, "ada", self.handle)
        site.gone.discard(name)
        try:
            told = cookie_of(await exchange.commit(200))
        except OwnerLimitReached:
            self.outcomes[name] = "refused"
        else:
            kept = self.sids[name] if "bind" in program else ""
            self.outcomes[name] = "gone" if name in site.gone else told or kept
        await exchange.finish(failed=self.outcomes[name] == "refused")

    def check(self) -> None:
        found = self.site.found()
        hers = [sid for sid, (_, owner) in found.items() if owner == "ada"]
        assert len(hers) <= 1, f"{len(hers)} sessions of one owner"
        logins = [name for name, program in self.programs.items() if {"login", "bind"} & {*program}]
        confirmed = [self.outcomes[name] for name in logins if self.outcomes[name] not in ("refused", "gone")]
        revoked = any("revoke" in program for program in self.programs.values())
        told = f"{self.outcomes} leaves {found}"
        if self.mode == "refuse":
            self.refuses(hers, confirmed, revoked=revoked, told=told)
        elif confirmed:
            bound = self.shared and any("bind" in program for program in self.programs.values())
            assert hers or bound, f"no session is left: {told}"  # `bound`: the other request may end that very session
        elif self.known and not revoked:
            assert hers == [self.third], f"a session was ended for a login that failed: {told}"
        for name, outcome in self.outcomes.items():
            program = self.programs[name]
            if outcome == "refused":
                assert self.mode == "refuse" or self.shared, told
            elif outcome not in ("", "gone") and outcome not in found:
                assert self.mode == "evict_oldest" or self.shared, f"{name} was sent the ID of no session: {told}"
            if "destroy" in program or "login" in program or "regenerate" in program:
                assert self.sids[name] not in found or outcome == "refused", f"the old ID of {name} is valid: {told}"
        lost = [name for name in self.sids if self.outcomes[name] == "refused" and "destroy" not in self.programs[name]]
        if lost and not self.shared:
            left = [data for data, _ in found.values() if data.get("device") in lost]
            assert len(left) == len(lost), f"a login that was refused ended its session: {told}"

    def refuses(self, hers: list[str], confirmed: list[str], *, revoked: bool, told: str) -> None:
        assert not confirmed or confirmed == hers or self.shared, f"a login was confirmed, but has no session: {told}"
        if self.known and not revoked:
            assert hers == [self.third], f"the third device lost its session: {told}"
        elif not self.known and not self.shared:
            assert len(confirmed) == 1, f"not exactly one login got the free place: {told}"


@pytest.mark.proves("AT-50")
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("shared", [False, True], ids=["two devices", "one browser"])
@pytest.mark.parametrize("known", [False, True], ids=["place is free", "place is taken"])
@pytest.mark.parametrize("mode", ["evict_oldest", "refuse"])
def test_as_many_sessions_as_allowed_are_left_in_every_order(mode: Mode, known: bool, shared: bool, part: int) -> None:
    site = Site(max_sessions_per_owner=1, on_owner_limit=mode)
    for one, two in PLAYED[part::PARTS]:
        devices = Devices(site, one, two, mode=mode, known=known, shared=shared)
        explore(devices, mirrored=one == two, switches=SWITCHES)
        draw(devices, repr(devices), DRAWN)


@pytest.mark.parametrize("fault", [DeleteDoesNothing, MoveForgetsTheOwner, MoveLeavesTheOldRecord])
def test_a_storage_that_lets_too_many_sessions_in_is_found_out(fault: type[Faulty]) -> None:
    site = Site(max_sessions_per_owner=1, on_owner_limit="evict_oldest", make=fault)
    with pytest.raises(AssertionError, match="schedule"):
        explore(Devices(site, ("login",), ("login",), mode="evict_oldest", known=True, shared=False), switches=1)
