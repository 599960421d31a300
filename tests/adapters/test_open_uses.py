"""An open connection ends whatever its own request does first, and stays where nothing of its own has ended."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from tests.adapters.asgi import ACCEPT
from tests.adapters.test_open_asgi import CLOSE, EVENTS, LAST, PART, Handler, line
from tests.kit import BOTH_LOOPS, destroy
from tests.turns import comes_true

from sessioncore import Session, SessionGone

pytestmark = pytest.mark.anyio

Act = Callable[[Session], Awaitable[object]]


async def nothing(session: Session) -> None:
    """Leave it alone."""


async def revoke(session: Session) -> None:
    await session.store.revoke_all("ada")


async def write_as_it_ends(session: Session) -> None:
    session["n"] = 2
    await revoke(session)


async def write_as_it_moves(session: Session) -> None:
    session["n"] = 2
    async with session.store.open(session.id) as other:
        await other.regenerate()


async def reload_late(session: Session) -> None:
    await revoke(session)
    with pytest.raises(SessionGone):
        await session.reload()


async def read_in_a_thread(session: Session) -> None:
    await anyio.to_thread.run_sync(session.get, "n")
    await revoke(session)


def connection(kind: str, before: Act, after: Act) -> Handler:
    async def handle(session: Session, receive: Any, send: Any) -> None:
        await before(session)
        for message in [ACCEPT] if kind == "websocket" else [EVENTS, PART]:
            await send(message)
        await after(session)
        await anyio.sleep_forever()

    return handle


@BOTH_LOOPS
@pytest.mark.parametrize("kind", ["websocket", "http"])
@pytest.mark.parametrize(("before", "after"), [
    (nothing, destroy), (nothing, reload_late), (nothing, read_in_a_thread), (write_as_it_ends, nothing),
    (write_as_it_moves, revoke),
])  # fmt: skip
@pytest.mark.proves("P2")
async def test_it_ends_with_its_session(kind: str, before: Act, after: Act) -> None:
    async with line(connection(kind, before, after), kind) as (one, _):
        await comes_true(lambda: one.sent and one.sent[-1] == (CLOSE if kind == "websocket" else LAST))


@BOTH_LOOPS
@pytest.mark.parametrize("before", [destroy, write_as_it_moves])
async def test_it_stays_if_its_session_ended_before_it_or_has_moved(before: Act) -> None:
    async with line(connection("websocket", before, nothing)) as (one, store):
        await comes_true(lambda: one.sent)
        await store.create({})
        await anyio.wait_all_tasks_blocked()  # what was told is looked up by now
        assert [message["type"] for message in one.sent] == ["websocket.accept"]
