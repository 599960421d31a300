"""Sessions without a request: jobs, maintenance, and the pages on which an owner sees all sessions."""

from typing import Any, assert_type

from sessioncore import (
    Session,
    SessionConfig,
    SessionGone,
    SessionInfo,
    SessionNotFound,
    SessionStore,
    __version__,
    storage_from_url,
)
from sessioncore.testing import SignedIn, sign_in


class Money:
    """A class of no known shape: it needs `encode` and `decode`."""

    def __init__(self, cents: int, currency: str) -> None:
        self.cents, self.currency = cents, currency


def decode_money(parts: tuple[int, str]) -> Money:
    return Money(*parts)


async def main() -> None:
    version: str = __version__
    assert version
    async with SessionStore(SessionConfig(storage=storage_from_url("memory://"))) as store:
        given = store.register_type(Money, encode=lambda money: (money.cents, money.currency), decode=decode_money)
        assert_type(given, type[Money])
        session = await store.create({"cart": ["tea"]}, owner="ada", device="phone")
        assert_type(session, Session)
        async with store.open(session.id) as opened:
            assert_type(opened, Session)
            opened["cart"].append("milk")

        assert_type(await sign_in(store, "grace", {"cart": ["tea"]}, device="laptop"), SignedIn)
        infos = await store.sessions_of("ada")
        assert_type(infos, list[SessionInfo])
        assert_type(infos[0].details, dict[str, Any])
        assert_type(await store.revoke(infos[0].handle, owner="ada"), bool)

        session["late"] = True
        try:
            await session.save()
        except SessionGone:
            session.release()
        try:
            await store.get_by_id(session.id)
        except SessionNotFound:
            assert_type(await store.delete(session.id), bool)
        assert_type(await store.purge_expired() + await store.reset(), int)
