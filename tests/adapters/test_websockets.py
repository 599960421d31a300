"""WebSockets on every adapter: loaded at connect, an ID only in the handshake, saved by `save` and at close."""

from collections.abc import Generator
from contextlib import contextmanager

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from tests.adapters.browser import PATIENCE, until
from tests.adapters.conftest import Site
from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus


class Talk:
    """One connection of a WebSocket client, which runs on a loop of its own."""

    def __init__(self, portal: BlockingPortal, connection: ClientConnection) -> None:
        self._portal = portal
        self._connection = connection
        assert connection.response is not None
        self.headers: Headers = connection.response.headers

    @property
    def cookies(self) -> list[str]:
        return self.headers.get_all("Set-Cookie")

    def send(self, command: str) -> None:
        self._portal.call(self._connection.send, command)

    def hear(self) -> str:
        async def receive() -> str:
            with anyio.fail_after(PATIENCE):
                return str(await self._connection.recv())

        return self._portal.call(receive)

    def say(self, command: str) -> str:
        self.send(command)
        return self.hear()

    def vanish(self) -> None:
        """Go without a word."""
        self._portal.call(self._connection.transport.abort)


@contextmanager
def _talk(site: Site, sid: str | None = None, query: str = "how=none", **headers: str) -> Generator[Talk]:
    """Connect with the cookie of that session; refusals raise InvalidStatus."""
    headers = headers if sid is None else {"Cookie": f"a=1; __Host-session_id={sid}", **headers}
    uri = f"wss://localhost:{site.address.port}/ws?{query}"
    # The blocking client would read and write one TLS connection from two threads, which OpenSSL does not allow.
    client = connect(uri, ssl=site.address.trust, additional_headers=headers, open_timeout=PATIENCE)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(client) as connection:
        yield Talk(portal, connection)


def _sid(line: str) -> str:
    return line.partition("=")[2].partition(";")[0]


def _writes(site: Site) -> list[str]:
    """The storage calls, without those that look whether the session still exists."""
    return [call for call in site.calls() if call != "load"]


def test_a_new_id_travels_with_the_handshake(site: Site) -> None:
    with _talk(site, query="how=write") as connection:
        (line,) = connection.cookies
        assert connection.say("get n") == "1"
    assert site.raw("/read", ("Cookie", f"__Host-session_id={_sid(line)}")).text == '{"n":1}'


@pytest.mark.parametrize("how", ["regenerate", "login"])
def test_an_id_can_change_before_the_handshake_ends(site: Site, how: str) -> None:
    sid = site.make({"n": 1})
    with _talk(site, sid, query=f"how={how}") as connection:
        (line,) = connection.cookies
        assert _sid(line) != sid
        assert connection.say("get n") == "1"
    assert site.data(sid) is None
    assert site.count() == 1


def test_a_handshake_tells_that_it_read_the_session_and_nothing_more(site: Site) -> None:
    sid = site.make({"n": 1})
    for query, vary in (("how=none", []), ("how=read", ["Cookie"])):
        with _talk(site, sid, query) as connection:
            assert (connection.cookies, connection.headers.get_all("Vary")) == ([], vary)
            assert connection.say("get n") == "1"


@pytest.mark.proves("AT-131")
def test_after_the_handshake_no_session_begins_and_none_changes_its_id(site: Site) -> None:
    with _talk(site) as connection:
        for command in ("set k v", "regenerate", "login", "reset"):
            assert connection.say(command) == "ResponseStarted"
        assert connection.say("get k") == "None"
    assert site.count() == 0
    sid = site.make({"n": 1})
    with _talk(site, sid) as connection:
        for command in ("regenerate", "login", "reset"):
            assert connection.say(command) == "ResponseStarted"
        assert connection.say("set n 2") == "ok"
    until(lambda: site.data(sid) == {"n": "2"})
    assert site.data(sid) == {"n": "2"}


def test_save_stores_at_once(site: Site) -> None:
    sid = site.make({"n": 1})
    with _talk(site, sid) as connection:
        assert connection.say("set k v") == "ok"
        assert site.data(sid) == {"n": 1}
        assert connection.say("save") == "ok"
        assert site.data(sid) == {"n": 1, "k": "v"}
        assert connection.say("save") == "ok"
    assert _writes(site) == ["replace"]


@pytest.mark.parametrize("how", ["closes", "vanishes"])
def test_what_was_not_saved_is_stored_when_the_client_leaves(site: Site, how: str) -> None:
    sid = site.make({"n": 1})
    with _talk(site, sid) as connection:
        assert connection.say("set k v") == "ok"
        if how == "vanishes":
            connection.vanish()
    until(lambda: "replace" in site.storage.calls)
    assert _writes(site) == ["replace"]
    assert site.data(sid) == {"n": 1, "k": "v"}


def test_what_was_not_saved_is_dropped_when_the_application_fails(site: Site) -> None:
    sid = site.make({"n": 1})
    with _talk(site, sid) as connection:
        assert connection.say("set k v") == "ok"
        connection.send("boom")
        with pytest.raises(ConnectionClosed):
            connection.hear()
    assert site.data(sid) == {"n": 1}
    assert site.raw("/peek").status == 200
    assert _writes(site) == []


def test_destroy_ends_the_session_at_once(site: Site) -> None:
    sid = site.make({"n": 1})
    with _talk(site, sid) as connection:
        assert connection.say("destroy") == "ok"
        assert site.data(sid) is None
        assert connection.say("get n") == "None"
        assert connection.say("set n 2") == "ResponseStarted"
        assert connection.say("save") == "ok"
    assert site.count() == 0


def test_reload_shows_what_others_have_stored_and_that_the_session_was_ended(site: Site) -> None:
    sid = site.make({"n": 1}, owner="ada")
    with _talk(site, sid) as connection:
        assert connection.say("set k v") == "ok"
        assert site.raw("/counter", ("Cookie", f"__Host-session_id={sid}")).text == "2"
        assert [connection.say(command) for command in ("get n", "reload", "get n", "get k")] == ["1", "ok", "2", "v"]
        site.server.run(lambda: site.store.revoke_all("ada"))
        assert [connection.say(command) for command in ("reload", "get n")] == ["SessionGone", "None"]
    assert site.raw("/peek").status == 200
    assert site.count() == 0


def test_a_refused_handshake_keeps_only_what_needs_no_cookie(site: Site) -> None:
    sid = site.make({"n": 1})
    for given, query in ((None, "how=none&refuse=1"), (sid, "how=write&refuse=1")):
        with pytest.raises(InvalidStatus) as caught, _talk(site, given, query):
            pass
        assert (caught.value.response.status_code, caught.value.response.headers.get_all("Set-Cookie")) == (403, [])
    assert site.data(sid) == {"n": 2}
    assert site.count() == 1


@pytest.mark.proves("P7")
def test_a_storage_that_is_down_refuses_the_handshake_that_needs_it(site: Site) -> None:
    sid = site.make({"n": 1})
    for calls, given in (((), sid), (("create",), None), (("replace",), sid)):
        site.storage.fail(*calls)
        with pytest.raises(InvalidStatus) as caught, _talk(site, given, query="how=write"):
            pass
        response = caught.value.response
        assert (response.status_code, response.body) == (503, b"Service Unavailable")
        assert response.headers.get_all("Set-Cookie") == []
        site.storage.restore()
    site.storage.fail("load")
    with _talk(site, sid):  # which does not use the session
        pass


@pytest.mark.proves("P8")
def test_one_that_another_site_opened_is_closed_when_it_uses_the_session(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    sid = site.make({"n": 1})
    with pytest.raises(ConnectionClosed) as closed, _talk(site, sid, Origin="https://attacker.example") as connection:
        connection.hear()  # the page accepts before it uses the session
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, site.calls(), site.kinds()) == (1008, [], ["cross_site"])
    assert [record for record in caplog.records if record.exc_info] == []
    with pytest.raises(InvalidStatus, match="403"), _talk(site, sid, "how=read", Origin="https://attacker.example"):
        pass
