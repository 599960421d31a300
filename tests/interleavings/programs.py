"""Requests as little programs: load, some verbs, commit, finish; and the scenario in which two of them meet."""

from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import product
from typing import Any

from tests.interleavings.hand_loop import HandLoop
from tests.interleavings.model import Action, Kept, Request, Snapshot, World, explains
from tests.interleavings.stepping import ACTOR, SteppingStorage, Steps
from tests.views import PlainView

from sessioncore import (
    EventKind,
    Exchange,
    ResponseStarted,
    Session,
    SessionConfig,
    SessionEvent,
    SessionGone,
    SessionNotFound,
    SessionStore,
    Storage,
    StorageUnavailable,
)
from sessioncore.testing import ManualClock

__all__ = ["VERBS", "Meeting", "Program", "Race", "Site", "cookie_of", "programs"]

Program = tuple[str, ...]

VERBS = ("read", "set", "mutate", "regenerate", "login", "destroy", "revoke", "expire")

_IDLE = timedelta(minutes=30)
_START = 1_800_000_000.0


def programs(*lengths: int) -> list[Program]:
    """Every program of these lengths."""
    return [program for length in lengths for program in product(VERBS, repeat=length)]


def cookie_of(headers: list[tuple[str, str]]) -> str | None:
    """The ID that the client gets; "" if its cookie is cleared, None if the response says nothing about it."""
    cookies = [value for name, value in headers if name == "set-cookie"]
    assert len(cookies) <= 1, "two cookies of one name"
    if not cookies:
        return None
    return "" if "Max-Age=0" in cookies[0] else cookies[0].partition("=")[2].partition(";")[0]


def nobody_loses_any(verb: str) -> bool:
    """Whether a write without a reply was carried out: only test_lost_replies loses writes, and so replaces this."""
    raise AssertionError(f"a {verb} found the storage unavailable, though this test loses no write")


class TickingClock(ManualClock):
    """A clock that never shows the same time twice, if `tick` is above zero."""

    def __init__(self, tick: float) -> None:
        super().__init__(_START)
        self.tick = tick

    def __call__(self) -> float:
        self.advance(self.tick)
        return super().__call__()


class Site:
    """One store on a SteppingStorage, and everything that was done with it."""

    def __init__(
        self,
        *,
        replies: bool = False,
        follows: bool = False,
        taken: bool = False,
        tick: float = 1e-6,
        make: Callable[[Storage], Storage] = lambda storage: storage,
        **settings: Any,
    ) -> None:
        self.taken = taken  # the generator offers the ID of another visitor's session before each new one
        self.loop = HandLoop()
        self.steps = Steps(self.loop, replies=replies)
        self.clock = TickingClock(tick)
        self.storage = SteppingStorage(self.steps, self.clock, make)
        self.store = SessionStore(
            SessionConfig(
                storage=self.storage,
                clock=self.clock,
                idle_timeout=_IDLE,
                id_generator=self.new_id,
                on_event=self.hear,
                stale_id_window=timedelta(seconds=20 if follows else 0),
                **settings,
            )
        )
        self.gone: set[str] = set()  # actors whose last commit or save reported that the session is gone or stale
        self.has_arrived: Callable[[str], bool] = nobody_loses_any
        self.offers = 0
        self.actions: list[Action] = []
        self.issued: list[str] = []

    def empty(self) -> None:
        """Restore the initial state."""
        self.clock.advance(_START - self.clock())
        self.storage.empty()
        self.actions, self.issued = [], []
        self.gone.clear()
        self.steps.now = 0
        self.offers = 0

    def hear(self, event: SessionEvent) -> None:
        if event.kind in {EventKind.GONE, EventKind.STALE_ID}:
            self.gone.add(ACTOR.get())

    def new_id(self) -> str:
        self.offers += 1
        if self.taken and self.offers > 1 and self.offers % 2 == 0:
            return self.issued[0]
        self.issued.append(f"session-number-{len(self.issued):08d}")
        return self.issued[-1]

    def found(self) -> Snapshot:
        """Return the sessions of all IDs that were issued, check that there are no others, and end them all."""
        found: Snapshot = {}
        owned: dict[str, set[str]] = {"ada": set(), "bob": set()}

        async def look() -> None:
            for sid in self.issued:
                try:
                    session = await self.store.get_by_id(sid)
                except SessionNotFound:
                    continue
                found[sid] = (dict(session), session.owner)
                if session.owner is not None:
                    owned[session.owner].add(f"session:{session.handle}")
            for owner, keys in owned.items():
                listed = await self.storage.inner.owned_keys(f"session:{owner}")
                assert sorted(listed) == sorted(keys), f"the index lists {len(listed)} sessions of {owner}"
            try:
                await self.store.get_by_id("an-id-that-nobody-was-given")
            except SessionNotFound:
                pass
            else:
                raise AssertionError("an ID that was not issued is valid (P1)")
            assert await self.store.reset() == len(found), "there is a session under an ID that was never issued"

        self.loop.run(look())
        return found

    # -- what an actor does

    @contextmanager
    def action(self, actor: str, request: str, verb: str, value: Any = None) -> Generator[Action]:
        action = Action(actor, request, verb, self.steps.tick(), value=value)
        yield action
        action.end = self.steps.tick()
        self.actions.append(action)

    async def act(self, actor: str, request: str, exchange: Exchange, verb: str, owner: str, handle: str) -> None:
        """Carry out one verb of a program."""
        session = exchange.session
        number = len(self.actions)
        match verb:
            case "save":
                await self.save(actor, request, session)
            case "reload":
                with self.action(actor, request, verb) as action:
                    action.result = True
                    with suppress(SessionGone):
                        await session.reload()
                        action.result = False
            case "read":
                with self.action(actor, request, verb) as action:
                    action.result = (dict(session), session.fresh, session.owner)
            case "set":
                values = {f"of {actor}": f"{actor}{number}", "last": f"{actor}{number}"}
                with self.action(actor, request, verb, values) as action, too_late(action):
                    session.update(values)
            case "mutate":
                with self.action(actor, request, verb) as action, too_late(action):
                    action.result = session.mutate("count", lambda count: count + 1, 0)
            case "append":
                added = [f"{actor}{number}"]
                with self.action(actor, request, verb, added) as action, too_late(action):
                    action.result = list(session.mutate("items", lambda items: items + added, []))
            case "amend":
                with self.action(actor, request, verb, [f"{actor}{number}"]) as action:
                    session.get("items", []).extend(action.value)
            case "delete" | "clear":
                with self.action(actor, request, "delete", ["count"] if verb == "delete" else list(session)):
                    session.delete("count") if verb == "delete" else session.clear()
            case "regenerate":
                with self.action(actor, request, verb) as action, too_late(action):
                    await session.regenerate()
            case "login":
                with self.action(actor, request, verb, owner) as action, too_late(action):
                    await session.login(owner)
            case "destroy" | "reset":
                with self.action(actor, request, "destroy"):
                    await (session.destroy() if verb == "destroy" else session.reset())
            case "revoke":
                with self.action(actor, request, verb, handle) as action:
                    action.result = await self.store.revoke(handle)
            case "revoke all":
                with self.action(actor, request, verb, owner) as action:
                    action.result = await self.store.revoke_all(owner)
            case _:
                assert verb == "expire"
                await self.steps.pause()
                with self.action(actor, request, verb):
                    self.clock.advance(_IDLE.total_seconds() + 1)

    async def commit(self, actor: str, request: str, exchange: Exchange, status: int = 200) -> str | None:
        with self.action(actor, request, "commit" if status < 500 else "fail") as action:
            self.gone.discard(actor)
            told = None
            try:
                told = cookie_of(await exchange.commit(status))
            except StorageUnavailable:
                action.result = "unavailable", self.has_arrived(action.verb)
            else:
                action.result = told, actor in self.gone
        return told

    async def save(self, actor: str, request: str, session: Session) -> None:
        with self.action(actor, request, "save") as action:
            self.gone.discard(actor)
            try:
                await session.save()
            except SessionGone:
                action.result = None, True
            except StorageUnavailable:
                action.result = "unavailable", self.has_arrived(action.verb)
            else:
                action.result = None, actor in self.gone


@contextmanager
def too_late(action: Action) -> Generator[None]:
    """Record that the core has refused a change, because its new ID could no longer reach the client."""
    try:
        yield
    except ResponseStarted:
        action.result = "too late"


class Race:
    """Two actors on one site, each with a program, and what is there before they begin."""

    def __init__(self, site: Site, one: Program, two: Program) -> None:
        self.site = site
        self.steps = site.steps
        self.programs = {"A": one, "B": two}
        self.sid = self.handle = ""

    def __repr__(self) -> str:
        return " and ".join(f"{name}: {' '.join(program)}" for name, program in self.programs.items())

    def begin(self) -> dict[str, Coroutine[Any, Any, None]]:
        self.site.empty()
        self.site.loop.run(self.prepare())
        return {name: self.play(name, program) for name, program in self.programs.items()}

    async def prepare(self) -> None:
        """Store a session, and let time pass until its idle clock is due."""
        await self.store_one()
        self.site.clock.advance(120)

    def data(self) -> dict[str, Any]:
        """What the session holds at first."""
        return {"count": 0, "last": ""}

    async def store_one(self, owner: str | None = None) -> None:
        session = await self.site.store.create(self.data(), owner=owner)
        self.sid, self.handle = session.id, session.handle

    async def arrive(self, actor: str, request: str, sid: str | None) -> Exchange:
        exchange = self.site.store.exchange(PlainView([f"__Host-session_id={sid}".encode()] if sid else []))
        with self.site.action(actor, request, "load"):
            await exchange.load()
        return exchange

    async def play(self, name: str, program: Program) -> None:
        """What an actor does."""
        raise NotImplementedError

    def explain(self, world: World, found: Snapshot, actions: list[Action] | None = None) -> None:
        """Fail unless some order of the actions leads from this world to what was found."""
        explained = explains(world, self.site.actions if actions is None else actions, found)
        assert explained, f"no order of {self.site.actions} leaves {found}"


class Meeting(Race):
    """Two requests of one browser, with one cookie: each plays a program, and logs in as an owner of its own."""

    requests = "AB"

    def __init__(
        self, site: Site, one: Program, two: Program, *, owner: str | None = None, follows: bool = False
    ) -> None:
        super().__init__(site, one, two)
        self.owner = owner
        self.follows = follows

    async def store_one(self, owner: str | None = None) -> None:
        if self.site.taken:
            await self.site.store.create({"of a stranger": 1})
        await super().store_one(self.owner)

    async def play(self, name: str, program: Program) -> None:
        exchange = await self.arrive(name, name, self.sid)
        owner = "ada" if name == "A" else "bob"
        for verb in program:
            await self.site.act(name, name, exchange, verb, owner, self.handle)
        await self.site.commit(name, name, exchange)
        await exchange.finish()

    def check(self) -> None:
        live = {self.sid: Kept(self.data(), self.owner)}
        if self.site.taken:
            live[self.site.issued[0]] = Kept({"of a stranger": 1})
        requests = {name: Request(self.sid) for name in self.requests}
        self.explain(World(self.follows, live, requests, {self.handle: self.sid}), self.site.found())
