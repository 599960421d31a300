"""WebSockets on ASGI, message by message; what a client sees is in test_websockets."""

from functools import partial

import pytest
from tests.adapters.asgi import ACCEPT, CONNECT, LEAVE, AsgiSite, Channel, Message, run, socket_scope

from sessioncore import Session, SessionReleased, StorageUnavailable, UnregisteredType, from_form

pytestmark = pytest.mark.anyio
DENIED: Message = {"type": "websocket.http.response.start", "status": 401, "headers": []}


@pytest.mark.proves("AT-131")
async def test_a_new_id_travels_with_the_accept_and_changes_nothing_else_in_it() -> None:
    async def handler(session: Session, channel: Channel) -> None:
        assert (await channel.receive()) is CONNECT
        session["n"] = 1
        await channel.send({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x", b"y")]})
        session["n"] = 2
        await channel.send({"type": "websocket.send", "text": "hello"}, {"type": "websocket.close"})

    site = AsgiSite(handler)
    wire = await site.connect()
    assert wire.kinds == ["websocket.accept", "websocket.send", "websocket.close"]
    assert (wire.sent[0]["subprotocol"], wire.sent[0]["headers"][0]) == ("chat", (b"x", b"y"))
    assert await site.data(wire.sid) == {"n": 2}


async def test_an_untouched_accept_is_the_very_same_message() -> None:
    async def handler(session: Session, channel: Channel) -> None:
        await channel.send(ACCEPT)

    site = AsgiSite(handler)
    for sid in (None, await site.make()):
        assert (await site.connect(sid)).sent[0] is ACCEPT


async def test_a_client_that_leaves_loses_no_change_and_a_bug_does() -> None:
    class Disconnect(Exception):
        """What a framework raises when its client has left."""

    async def listen(session: Session, channel: Channel) -> None:
        await channel.send(ACCEPT)
        session["n"] = 2
        raise Disconnect if (await channel.receive()) is LEAVE else ZeroDivisionError

    async def push(session: Session, channel: Channel) -> None:
        await channel.send(ACCEPT)
        session["n"] = 2
        try:
            await channel.send({"type": "websocket.send", "text": "hello"})
        except OSError:
            raise Disconnect from None

    async def stumble(session: Session, channel: Channel) -> None:
        await channel.send(ACCEPT)
        session["n"] = 2
        raise FileNotFoundError("an OSError that has nothing to do with the client")

    async def close(code: int, session: Session, channel: Channel) -> None:
        await channel.send(ACCEPT)
        session["n"] = 2
        await channel.send({"type": "websocket.close", "code": code})

    for handler, incoming, raises, left in (
        (partial(close, 1000), CONNECT, None, 2),
        (partial(close, 1011), CONNECT, None, 1),
        (listen, LEAVE, Disconnect, 2),
        (listen, CONNECT, ZeroDivisionError, 1),
        (push, CONNECT, Disconnect, 2),
        (stumble, CONNECT, FileNotFoundError, 1),
    ):
        site = AsgiSite(handler)
        sid = await site.make(n=1)
        await site.connect(sid, incoming, raises=raises, breaks_at=1 if raises else None)
        assert await site.data(sid) == {"n": left}


async def test_a_denial_response_is_a_response_and_carries_the_cookie() -> None:
    async def handler(session: Session, channel: Channel) -> None:
        session["tries"] = 1
        await channel.send(DENIED, {"type": "websocket.http.response.body", "body": b"no"})

    site = AsgiSite(handler)
    wire = await site.connect()
    assert await site.data(wire.sid) == {"tries": 1}
    assert (wire.status, wire.body, wire.all("cache-control")) == (401, b"no", ["no-store"])


@pytest.mark.parametrize("message", [ACCEPT, DENIED, {"type": "websocket.close"}], ids=lambda m: str(m["type"]))
async def test_what_cannot_be_stored_refuses_the_handshake(message: Message) -> None:
    async def handler(session: Session, channel: Channel) -> None:
        session["n"] = object()
        await channel.send(message)

    site = AsgiSite(handler)
    sid = await site.make(n=1)
    assert (await site.connect(sid, raises=UnregisteredType)).sent == []
    assert await site.data(sid) == {"n": 1}


@pytest.mark.parametrize("refusal", [DENIED, {"type": "websocket.close"}], ids=lambda m: str(m["type"]))
async def test_an_error_after_a_refused_handshake_sends_nothing_more(refusal: Message) -> None:
    async def handler(session: Session, channel: Channel) -> None:
        await channel.send(refusal)
        raise StorageUnavailable("down")

    scope = socket_scope(extensions={"websocket.http.response": {}})
    assert (await run(AsgiSite(handler).app, scope, CONNECT)).sent == [refusal]


async def test_a_socket_has_no_form_and_its_session_ends_with_it() -> None:
    kept: list[Session] = []

    async def handler(session: Session, channel: Channel) -> None:
        kept.append(session)
        assert session.fresh
        assert (await channel.receive()) is CONNECT
        await channel.send(ACCEPT)

    await AsgiSite(handler, extractor=from_form("sid")).connect()
    with pytest.raises(SessionReleased):
        kept[0]["n"] = 1
