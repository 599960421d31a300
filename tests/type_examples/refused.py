"""What a type checker refuses. In both checkers, an ignored line without an error is an error itself."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from sessioncore import SessionConfig, SessionKey, SessionStore

VISITS = SessionKey("visits", int, default=0)


async def main(store: SessionStore) -> None:
    session = await store.create()
    session[VISITS] = "seven"  # type: ignore[misc]
    session.set(VISITS, None)  # type: ignore[misc]
    name: str = session[VISITS]  # type: ignore[assignment]
    text: str | None = session.get(VISITS)  # type: ignore[assignment]
    text = session.pop(VISITS)  # type: ignore[assignment]
    session.mutate(VISITS, str.upper)  # type: ignore[arg-type]
    session.setdefault(VISITS, text)  # type: ignore[misc]
    by_number = {7: "seven"}
    session.update(by_number)  # type: ignore[arg-type]
    await store.create(by_number)  # type: ignore[arg-type]
    SessionKey("visits", [int])  # type: ignore[call-overload]
    store.register_key("visits")  # type: ignore[arg-type]
    await session.login(7)  # type: ignore[arg-type]
    session.handle = name  # type: ignore[misc]
    SessionConfig(cookie_same_site="Lax")  # type: ignore[arg-type]
    SessionConfig(lifetime=30)  # type: ignore[call-arg]
    SessionStore(storage=None)  # type: ignore[call-arg]
