"""Requests that share sessions, one verb after another in any order, against the model (P1 to P5)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.interleavings.full import FOLLOWS
from tests.interleavings.model import Request, World
from tests.interleavings.programs import Site
from tests.interleavings.stepping import ACTOR
from tests.numbers import scaled
from tests.views import PlainView

from sessioncore import Exchange

VERBS = (
    "set", "mutate", "append", "amend", "delete", "clear", "login", "login bob", "regenerate", "reset", "destroy",
    "save", "reload", "leave", "leave", "fail", "revoke", "revoke all", "come back",
)  # fmt: skip
STEPS = st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(VERBS)), min_size=5, max_size=40)


class Story:
    """Three requests at a time, each with the cookie that was sent last, or with any other one."""

    def __init__(self, *, follows: bool) -> None:
        self.site = Site(follows=follows)
        self.world = World(follows, {}, {}, {}, named=False)
        self.exchanges: dict[str, Exchange] = {}
        self.names: dict[str, str | None] = {}  # what the model calls each ID that a client has
        self.last: str | None = None
        self.turns = 0

    async def step(self, slot: str, verb: str) -> None:
        ACTOR.set(slot)
        self.turns += 1
        if slot not in self.exchanges:
            await self.arrive(slot, self.last)
        exchange, request = self.exchanges[slot], self.world.requests[slot]
        match verb:
            case "come back":
                await self.arrive(slot, [*self.names][self.turns % len(self.names)] if self.names else None)
            case "leave" | "fail":
                told = await self.site.commit(slot, slot, exchange, 200 if verb == "leave" else 500)
                self.agree()
                if told:
                    assert told not in self.names
                    self.last, self.names[told] = told, request.sid
                await exchange.finish(failed=verb == "fail")
                del self.exchanges[slot], self.world.requests[slot]
            case _:
                if verb == "revoke":
                    self.world.handles[exchange.session.handle] = request.sid or ""
                word = verb.removesuffix(" bob")
                who = "bob" if verb == "login bob" else "ada"
                await self.site.act(slot, slot, exchange, word, who, exchange.session.handle)
        for other, open_one in self.exchanges.items():
            await self.site.act(other, other, open_one, "read", "", "")
        self.agree()

    async def arrive(self, slot: str, sid: str | None) -> None:
        if slot in self.exchanges:
            await self.exchanges[slot].finish(failed=True)
        exchange = self.exchanges[slot] = self.site.store.exchange(
            PlainView([f"__Host-session_id={sid}".encode()] if sid else [])
        )
        self.world.requests[slot] = Request(self.names[sid] if sid else None)
        with self.site.action(slot, slot, "load"):
            await exchange.load()
        self.agree()

    def agree(self) -> None:
        """Let the model do what was done since the last call."""
        for action in self.site.actions:
            assert self.world.happens(action), action
        self.site.actions.clear()


@pytest.mark.proves("P2", "P4", "AT-120")
@pytest.mark.parametrize("follows", FOLLOWS)
@settings(max_examples=scaled(150))
@given(steps=STEPS)
def test_requests_in_any_order_of_verbs_agree_with_the_model(steps: list[tuple[str, str]], follows: bool) -> None:
    story = Story(follows=follows)

    async def play() -> None:
        for slot, verb in steps:
            await story.step(slot, verb)
        for exchange in story.exchanges.values():
            await exchange.finish(failed=True)

    story.site.loop.run(play())
    found = story.site.found()
    assert story.world.looks_like(found), f"{story.world.live} is not {found}"
