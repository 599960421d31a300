"""WebSockets in Litestar: `set_session`, failures, and errors before the handshake."""

from collections.abc import AsyncGenerator

import anyio
import pytest
from litestar import (
    Litestar,
    websocket,
    websocket_listener,
    websocket_stream,  # pyright: ignore[reportUnknownVariableType]  # theirs
)
from litestar.exceptions import WebSocketDisconnect
from tests.adapters.asgi import socket_scope
from tests.adapters.browser import PATIENCE, until
from tests.adapters.line import Line
from tests.adapters.litestar_kit import COOKIE, AnySocket, Open, SessionDep, cookie_of, put, read, write
from tests.adapters.servers import serve, serve_asgi
from tests.stores import SpyStorage
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sessioncore import SessionConfig, SessionStore
from sessioncore_litestar import SessionPlugin


@websocket("/ws")
async def talk(socket: AnySocket, session: SessionDep) -> None:
    session["n"] = session.get("n", 0) + 1
    await socket.accept()
    assert socket.get_session_id() == session.id
    while (word := await socket.receive_text()) != "end":
        if word == "replace":
            put(socket, {"replaced": True})
        elif word == "clear":
            socket.clear_session()
        elif word == "part":
            with pytest.raises(WebSocketDisconnect):
                await socket.receive_text()
            put(socket, {"parted": True})
            return
        elif word == "fail":
            session["lost"] = True
            raise RuntimeError
    await socket.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
def test_a_websocket_ends_as_a_request_does(enter: Open) -> None:
    client = enter(talk, write, read)
    for word, left in (("stay", {"n": 2}), ("fail", {"n": 3}), ("replace", {"replaced": True}), ("clear", {})):
        if "n" not in client.get("/read").json():
            client.post("/write")
        with client.websocket_connect("/ws", headers=cookie_of(client)) as socket:
            socket.send_text(word)
            socket.send_text("end")
            with pytest.raises(WebSocketDisconnect) as caught:
                socket.receive_text()
            assert caught.value.code == (4500 if word == "fail" else 1000)
        assert client.get("/read").json() == left
    client.post("/write")
    with client.websocket_connect("/ws", headers=cookie_of(client)) as socket:
        socket.send_text("part")  # the client leaves, so the handler cannot send an answer
    until(lambda: client.get("/read").json() == {"parted": True})


@websocket("/puts")
async def puts(socket: AnySocket) -> None:
    put(socket, {"put": True})
    await socket.accept()
    await socket.close()


def test_what_is_set_before_the_handshake_begins_a_session_with_it(enter: Open) -> None:
    client = enter(puts, read)
    with client.websocket_connect("/puts") as socket:
        [cookie] = [value for name, value in socket.extra_headers or () if name == b"set-cookie"]
    assert client.get("/read", headers={"Cookie": cookie.decode().partition(";")[0]}).json() == {"put": True}


@websocket("/broken")
async def broken(socket: AnySocket, session: SessionDep) -> None:
    session["lost"] = True
    raise RuntimeError


@websocket("/uses")
async def uses(socket: AnySocket, session: SessionDep) -> None:
    session.get("n")


@websocket("/refused")
async def refused(socket: AnySocket, session: SessionDep) -> None:
    await session.login("")


@websocket("/saves")
async def saves_and_fails(socket: AnySocket, session: SessionDep) -> None:
    await session.login("ada")
    await session.save()
    raise RuntimeError


@websocket("/revokes")
async def revokes(socket: AnySocket, session: SessionDep) -> None:
    await session.store.revoke_all("ada")


def test_a_failure_before_the_handshake_closes_it_and_stores_nothing(enter: Open, storage: SpyStorage) -> None:
    client = enter(broken, uses, write, read)
    client.post("/write")
    for path, code in (("/broken", 4500), ("/uses", 1013)):  # the test client does not offer to take a real response
        if path == "/uses":
            storage.fail("load")
        with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect(path, headers=cookie_of(client)):
            pass
        assert caught.value.code == code
    storage.restore()
    assert client.get("/read").json() == {"n": 1}


def test_our_error_before_the_handshake_is_answered_as_elsewhere(store: SessionStore, storage: SpyStorage) -> None:
    app = Litestar([refused, uses, revokes], plugins=[SessionPlugin(store)])
    headers = {"Cookie": f"{COOKIE}={'a' * 43}"}
    with serve(serve_asgi, app) as server:
        for path, broken_calls, status, body in (
            ("/refused", [], 500, b"Internal Server Error"),
            ("/uses", ["load"], 503, b"Service Unavailable"),
            ("/revokes", ["owned_keys"], 503, b"Service Unavailable"),
        ):
            if broken_calls:
                storage.fail(*broken_calls)
            url = f"ws://localhost:{server.address.port}{path}"
            with pytest.raises(InvalidStatus) as caught:
                connect(url, open_timeout=PATIENCE, additional_headers=headers)
            assert (caught.value.response.status_code, caught.value.response.body) == (status, body)
            storage.restore()


@pytest.mark.anyio
@pytest.mark.parametrize("can_answer", [True, False])
async def test_a_handshake_that_fails_after_a_new_id_was_stored_is_answered_once(can_answer: bool) -> None:
    app = Litestar([saves_and_fails], plugins=[SessionPlugin(SessionStore())])
    line = Line(socket_scope("/saves", extensions={"websocket.http.response": {}} if can_answer else {}))
    await line.serve(app)
    kinds = [message["type"] for message in line.sent]
    if can_answer:
        assert kinds == ["websocket.http.response.start", "websocket.http.response.body"]
        assert line.sent[0]["status"] == 500
        assert dict(line.sent[0]["headers"])[b"set-cookie"].startswith(COOKIE.encode())
    else:
        assert (kinds, line.sent[0]["code"]) == (["websocket.close"], 4500)


# -- errors that Litestar turns into a close code


@websocket("/late")
async def late(socket: AnySocket, session: SessionDep) -> None:
    await socket.accept()
    session["n"] = 1


@pytest.mark.parametrize(("path", "outage"), [("/uses", True), ("/late", True), ("/late", False)])
def test_an_outage_or_a_first_write_after_accept_that_closes_a_websocket_is_logged_each_time(
    path: str, outage: bool, enter: Open, storage: SpyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    client = enter(uses, late, write, logging_config=None)
    headers = {}
    if outage:
        client.post("/write")
        headers = cookie_of(client)
        storage.fail("load")
    for _ in range(1 if outage else 2):
        caplog.clear()
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(path, headers=headers) as socket:
            socket.receive_text()
        [record] = [record for record in caplog.records if record.name == "sessioncore"]
        assert (record.levelname, record.exc_info is not None) == ("ERROR", True)
        assert outage or "or a WebSocket is accepted" in record.getMessage()


@websocket_listener("/listens")
async def listens(data: str, session: SessionDep) -> str:
    return f"{data} {session.owner}"


@websocket_stream("/streams")
async def streams(session: SessionDep) -> AsyncGenerator[str]:
    yield str(session.owner)
    await anyio.sleep_forever()


@websocket("/receives")
async def receives(socket: AnySocket, session: SessionDep) -> None:
    await socket.accept()
    await socket.send_text(str(session.owner))
    await socket.receive_text()


@websocket("/fails")
async def fails(socket: AnySocket, session: SessionDep) -> None:
    try:
        await receives.fn(socket, session)
    except WebSocketDisconnect:
        raise RuntimeError from None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "said", "heard"),
    [("/listens", ["hello"], "hello ada"), ("/streams", [], "ada"), ("/receives", [], "ada"), ("/fails", [], "ada")],
)
async def test_handlers_listeners_and_streams_end_with_their_session(
    path: str, said: list[str], heard: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = SessionStore(SessionConfig())
    app = Litestar([listens, streams, receives, fails], plugins=[SessionPlugin(store)], logging_config=None)
    sid = (await store.create({}, owner="ada")).id
    line = Line(socket_scope(path, sid), *({"type": "websocket.receive", "text": text} for text in said))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(line.serve, app)
            await line.opened.wait()
            await store.revoke_all("ada")
    assert (line.error, caplog.records) == (None, [])
    assert [message.get("code") for message in line.sent if message["type"] == "websocket.close"] == [1008]
    assert [message.get("text") for message in line.sent[1:-1]] == [heard]
