"""Setting the ASGI middleware up: what it refuses to be given, what it says of a missing extra, what its reprs hide."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from tests.asgi import ask, http_scope

from sessioncore import ConfigError, Exchange, MemoryStorage, RequestView, Session, SessionConfig, SessionStore
from sessioncore_asgi import SessionMiddleware
from sessioncore_asgi._responder import Responder
from sessioncore_asgi._view import AsgiView

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("wrong", [SessionConfig(), MemoryStorage(), None])
def test_what_is_no_store_is_refused_with_what_to_pass(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=rf"SessionMiddleware takes .*{type(wrong).__name__}; pass SessionStore\("):
        SessionMiddleware(Starlette(), wrong)


@pytest.mark.anyio
async def test_starlette_tells_of_it_with_the_first_message() -> None:
    wrong: Any = SessionConfig()
    app = Starlette(middleware=[Middleware(SessionMiddleware, store=wrong)])
    with pytest.raises(ConfigError, match="takes a SessionStore"):
        await app({"type": "lifespan"}, _never, _never)


async def _never(*_: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize(
    ("module", "framework", "extra"),
    [
        ("sessioncore_aiohttp", "aiohttp", "aiohttp"),
        ("sessioncore_litestar", "litestar", "litestar"),
        ("sessioncore_asgi.fastapi", "fastapi", "fastapi"),
    ],
)
def test_a_missing_framework_is_told_with_its_extra(module: str, framework: str, extra: str) -> None:
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {framework!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.path[:0] = {[str(ROOT / "src"), str(ROOT / "src" / "adapters")]!r}
sys.meta_path.insert(0, Missing())
try:
    import {module}
except ModuleNotFoundError as exc:
    print(exc.name, exc)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{framework} {module} needs ")
    assert said.endswith(f": pip install 'sessioncore[{extra}]'\n")


@pytest.mark.anyio
async def test_a_repr_shows_neither_headers_nor_the_id() -> None:
    seen: list[str] = []

    def remember(view: RequestView) -> bool:
        assert isinstance(view, AsgiView)
        seen.append(repr(view))
        return False

    store = SessionStore(SessionConfig(skip=remember))
    sid = (await store.create({"n": 1})).id

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange, session = scope["sessioncore"][1], scope["session"]
        assert isinstance(exchange, Exchange)
        assert isinstance(session, Session)
        responder = send.__self__
        assert isinstance(responder, Responder)
        seen.extend((repr(exchange), repr(session), repr(responder), repr(send), repr(receive)))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    await ask(SessionMiddleware(app, store, lazy=True), sid=sid)
    await ask(SessionMiddleware(app, store), sid=sid)
    view = AsgiView(http_scope(sid=sid), _never)
    seen.append(repr(view))
    assert len(seen) == 12
    assert not [text for text in seen if sid in text or "shop.example" in text]
