"""Sessions in WebSockets: loaded at connect, saved by `save` and at close; an ID is sent in the handshake only."""

from socket import SHUT_RDWR

import pytest
from tests.adapters.browser import PATIENCE, until
from tests.adapters.conftest import Site, Sites
from tests.adapters.open_kit import socket
from tests.stores import SpyStorage
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection


@pytest.fixture
def site(adapter: str, sites: Sites) -> Site:
    # Without TLS, since the client would read and write one connection from two threads, which OpenSSL does not allow.
    return sites(adapter, SpyStorage, plain=True).reset()


def say(connection: ClientConnection, command: str) -> str:
    connection.send(command)
    return str(connection.recv(PATIENCE))


def headers_of(connection: ClientConnection, name: str) -> list[str]:
    """The values of a header of the handshake."""
    assert connection.response is not None
    return connection.response.headers.get_all(name)


def _writes(site: Site) -> list[str]:
    """The storage calls, without those that look whether the session still exists."""
    return [call for call in site.calls() if call != "load"]


@pytest.mark.parametrize("how", ["write", "regenerate", "login"])
def test_an_id_that_is_new_or_changes_travels_with_the_handshake(site: Site, how: str) -> None:
    sid = None if how == "write" else site.make({"n": 1})
    with socket(site, sid, f"how={how}") as connection:
        (line,) = headers_of(connection, "Set-Cookie")
        assert say(connection, "get n") == "1"
    sent = line.removeprefix("session_id=").partition(";")[0]
    assert sent != sid
    assert (site.data(sent), site.count()) == ({"n": 1}, 1)


def test_a_handshake_that_read_the_session_sends_vary_and_nothing_more(site: Site) -> None:
    sid = site.make({"n": 1})
    for query, vary in (("how=none", []), ("how=read", ["Cookie"])):
        with socket(site, sid, query) as connection:
            assert (headers_of(connection, "Set-Cookie"), headers_of(connection, "Vary")) == ([], vary)
            assert say(connection, "get n") == "1"


@pytest.mark.proves("AT-131")
def test_after_the_handshake_no_session_begins_and_none_changes_its_id(site: Site) -> None:
    with socket(site, query="how=none") as connection:
        for command in ("set k v", "regenerate", "login", "reset"):
            assert say(connection, command) == "ResponseStarted"
        assert say(connection, "get k") == "None"
    assert site.count() == 0
    sid = site.make({"n": 1})
    with socket(site, sid, "how=none") as connection:
        for command in ("regenerate", "login", "reset"):
            assert say(connection, command) == "ResponseStarted"
        assert say(connection, "set n 2") == "ok"
    until(lambda: site.data(sid) == {"n": "2"})


@pytest.mark.parametrize("how", ["closes", "vanishes", "fails"])
def test_what_was_not_saved_is_stored_when_the_client_leaves_and_dropped_after_a_failure(site: Site, how: str) -> None:
    sid = site.make({"n": 1})
    site.storage.done.clear()
    with socket(site, sid, "how=none") as connection:
        assert say(connection, "set k v") == "ok"
        if how == "vanishes":
            connection.socket.shutdown(SHUT_RDWR)  # without a close frame
        elif how == "fails":
            connection.send("boom")
            with pytest.raises(ConnectionClosed):
                connection.recv(PATIENCE)
    if how == "fails":
        assert site.raw("/peek").status == 200
    else:
        until(lambda: "replace" in site.storage.done)
    assert _writes(site) == ([] if how == "fails" else ["replace"])
    assert site.data(sid) == ({"n": 1} if how == "fails" else {"n": 1, "k": "v"})


def test_destroy_ends_the_session_at_once(adapter: str, sites: Sites) -> None:
    site = sites(adapter, SpyStorage, plain=True, end_connections=False).reset()  # so that the socket stays open
    sid = site.make({"n": 1})
    with socket(site, sid, "how=none") as connection:
        assert say(connection, "destroy") == "ok"
        assert site.data(sid) is None
        assert say(connection, "get n") == "None"
        assert say(connection, "set n 2") == "ResponseStarted"
        assert say(connection, "save") == "ok"
    assert site.count() == 0


def test_reload_shows_what_others_have_stored_and_that_the_session_was_ended(site: Site) -> None:
    sid = site.make({"n": 1}, owner="ada")
    with socket(site, sid, "how=none") as connection:
        assert say(connection, "set k v") == "ok"
        assert site.raw("/counter", ("Cookie", f"session_id={sid}")).text == "2"
        assert [say(connection, command) for command in ("get n", "reload", "get n", "get k")] == ["1", "ok", "2", "v"]
        site.server.run(lambda: site.store.revoke_all("ada"))
        assert [say(connection, command) for command in ("reload", "get n")] == ["SessionGone", "None"]
    assert site.raw("/peek").status == 200
    assert site.count() == 0


def test_a_refused_handshake_keeps_only_what_needs_no_cookie(site: Site) -> None:
    sid = site.make({"n": 1})
    for given, query in ((None, "how=none&refuse=1"), (sid, "how=write&refuse=1")):
        with pytest.raises(InvalidStatus) as caught, socket(site, given, query):
            pass
        assert (caught.value.response.status_code, caught.value.response.headers.get_all("Set-Cookie")) == (403, [])
    assert site.data(sid) == {"n": 2}
    assert site.count() == 1


@pytest.mark.proves("P7")
def test_a_storage_that_is_down_refuses_the_handshake_that_needs_it(site: Site) -> None:
    sid = site.make({"n": 1})
    for calls, given in (((), sid), (("create",), None), (("replace",), sid)):
        site.storage.fail(*calls)
        with pytest.raises(InvalidStatus) as caught, socket(site, given, query="how=write"):
            pass
        response = caught.value.response
        assert (response.status_code, response.body) == (503, b"Service Unavailable")
        assert response.headers.get_all("Set-Cookie") == []
        site.storage.restore()
    site.storage.fail("load")
    with socket(site, sid, "how=none"):  # this handshake does not use the session
        pass


@pytest.mark.proves("P8")
def test_one_of_another_site_is_closed_when_it_uses_the_session(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    sid = site.make({"n": 1})
    with (
        pytest.raises(ConnectionClosed) as closed,
        socket(site, sid, "how=none", origin="https://attacker.example") as connection,
    ):
        connection.recv(PATIENCE)  # the page accepts before it uses the session
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "cross-site request")
    assert (site.calls(), site.kinds()) == ([], ["cross_site"])
    assert [record for record in caplog.records if record.exc_info] == []
    with pytest.raises(InvalidStatus, match="403"), socket(site, sid, "how=read", origin="https://attacker.example"):
        pass
