"""A signed-in visitor for tests of applications: a stored session, and the cookie and headers of its client."""

from typing import Any

from msgspec import Struct

from sessioncore._errors import ConfigError
from sessioncore._opaque import Opaque
from sessioncore._store import SessionStore
from sessioncore.http._extractors import Source, keys_of
from sessioncore.session._keys import KeyedValues

__all__ = ["SignedIn", "sign_in"]


class SignedIn(Opaque, Struct, frozen=True):
    """A stored session as its client knows it.

    `cookies` and `headers` are for a test client: `client.cookies.update(visitor.cookies)`
    or `client.get("/", headers=visitor.headers)`. If a response is to bring the client of httpx a new
    ID, give the cookie its domain: `client.cookies.set(name, value, domain="test.example")`.
    """

    session_id: str
    handle: str
    cookies: dict[str, str]
    headers: dict[str, str]

    def __repr__(self) -> str:
        return f"<SignedIn handle={self.handle}>"


async def sign_in(
    store: SessionStore, owner: str | None = None, data: KeyedValues | None = None, **details: Any
) -> SignedIn:
    """Store a session, with `owner` if one is given, and return what its client sends.

    No security setting is relaxed: a Secure cookie still needs a test client that uses
    https, such as `httpx.AsyncClient(base_url="https://testserver", ...)`.

    Raises:
        ConfigError: the store's extractor has neither a cookie nor a header.
    """
    session = await store.create(data, owner=owner, **details)
    cookies = dict.fromkeys(keys_of(store.config.extractor, Source.COOKIE), session.id)
    headers = dict.fromkeys(keys_of(store.config.extractor, Source.HEADER), session.id)
    if not cookies and not headers:
        raise ConfigError("sign_in() needs a store that reads IDs from a cookie or a header")
    if cookies:
        headers["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    visitor = SignedIn(session.id, session.handle, cookies, headers)
    session.release()
    return visitor
