"""An adapter of one's own: a view of the request, and an exchange that drives its session."""

from collections.abc import Sequence
from typing import assert_type

import anyio
from msgspec import Struct

from sessioncore import Done, RequestView, Session, SessionError, SessionStore
from sessioncore.integration import ErrorResponse, check_store


class View(Struct):
    method: str
    path: str
    scheme: str
    cookies: list[bytes]

    def cookie_headers(self) -> Sequence[bytes]:
        return self.cookies

    def header(self, name: str) -> Sequence[str]:
        return []

    def query(self, name: str) -> str | None:
        return None

    def path_param(self, name: str) -> str | None:
        return None

    async def form(self, name: str) -> str | None:
        return None


async def serve(store: SessionStore, view: RequestView) -> list[tuple[bytes, bytes]]:
    check_store(store, "serve")
    exchange = store.exchange(view)
    await exchange.load()
    assert_type(exchange.session, Session)
    try:
        exchange.session["visited"] = True
        added = await exchange.commit(200)
        assert_type(added, list[tuple[str, str]])
        return exchange.revise([(b"content-type", b"text/plain")], added)
    except SessionError as error:
        response = exchange.error_response(error)
        assert_type(response, ErrorResponse | None)
        if response is None:
            raise
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    finally:
        finishing = exchange.finish()
        if not isinstance(finishing, Done):  # else there is nothing to wait for
            await finishing


async def main() -> None:
    headers = await serve(SessionStore(), View("GET", "/", "https", []))
    assert b"set-cookie" in dict(headers)


if __name__ == "__main__":
    anyio.run(main)
