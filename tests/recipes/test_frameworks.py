"""docs/libraries/fasthtml.md and quart.md: the same visit to both, each under a server in a process of its own."""

from pathlib import Path
from typing import Any

import pytest
from tests.recipes.kit import Client, program, run_alone, serve_alone

from sessioncore import SessionConfig, SessionStore
from sessioncore_asgi import SessionMiddleware

quart = pytest.importorskip("quart", reason="it is in the extra `recipes`")


@pytest.mark.parametrize("page", ["fasthtml", "quart"])
def test_ada_visits_logs_in_and_leaves(page: str, tmp_path: Path) -> None:
    with serve_alone(f"libraries/{page}.md", tmp_path) as server, server.client() as ada:
        assert "ada" not in ada.get("/").text
        before = ada.cookies["__Host-session_id"]
        assert "Wrong name" in ada.post("/login", data={"name": "ada", "password": "wrong"}).text
        welcome = ada.post("/login", data={"name": "ada", "password": "enchantress"}).text
        assert "Wrong name" not in welcome, "a message is shown once"
        assert "Good to see you" in welcome
        assert ", ada" in welcome or "Hello ada" in welcome
        assert "Visit 3" in welcome, "the visits before the login are kept"
        assert list(ada.cookies) == ["__Host-session_id"], "no cookie of the library's own"
        kept = {"__Host-session_id": ada.cookies["__Host-session_id"]}
        assert kept["__Host-session_id"] != before
        assert "ada" not in ada.post("/logout").text
        with server.client(cookies=kept) as thief:
            assert "ada" not in thief.get("/").text


def test_what_the_page_of_fasthtml_says_does_not_work(tmp_path: Path) -> None:
    code = """
from fasthtml.common import fast_app
from sessioncore import ConfigError, Session
from starlette.testclient import TestClient

@app.get("/peek")
def peek(session):
    return f"visits: {session.get('visits')}"

@app.get("/annotated")
def annotated(session: Session):
    return session.handle

served = TestClient(app, base_url="https://testserver", cookies=dict(app.get_testclient(visits=5).cookies))
assert served.get("/peek").text == "visits: None"
assert served.get("/annotated").status_code == 400
try:
    fast_app(secret_key="-", middleware=app.user_middleware)[0].build_middleware_stack()
except ConfigError:
    pass
else:
    raise AssertionError("fast_app was accepted")
"""
    run_alone("libraries/fasthtml.md", code, tmp_path)


@pytest.mark.anyio
async def test_quart_skips_as_configured_and_has_no_permanent_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = program("libraries/quart.md", monkeypatch)

    async def permanent() -> str:
        with pytest.raises(AttributeError):
            quart.session.permanent = True
        return "no"

    async def picture() -> str:
        session: Any = quart.session
        return type(session._get_current_object()).__name__

    shop.app.get("/permanent")(permanent)
    shop.app.get("/picture")(picture)
    assert (await Client(shop.app).get("/permanent")).text == "no"
    skipping = SessionStore(SessionConfig(skip=lambda request: True))
    shop.app.asgi_app = SessionMiddleware(shop.Quart.asgi_app.__get__(shop.app), skipping)
    assert (await Client(shop.app).get("/picture")).text == "NullSession"
