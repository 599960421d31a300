"""FastAPI: a parameter of the type `SessionDep`."""

from typing import Annotated, TypeAlias, assert_type

from fastapi import Depends, FastAPI, HTTPException

from sessioncore import Session, SessionConfig, SessionKey, SessionStore
from sessioncore_asgi import SessionMiddleware
from sessioncore_asgi.fastapi import SessionDep, session_dependency

VISITS = SessionKey("visits", int, default=0)
AdminSession: TypeAlias = Annotated[Session, Depends(session_dependency("admin"))]

app = FastAPI()
app.add_middleware(SessionMiddleware, store=SessionStore(SessionConfig.development()))
app.add_middleware(
    SessionMiddleware, store=SessionStore(SessionConfig.development(key_prefix="admin:")), scope_key="admin"
)


@app.get("/")
async def home(session: SessionDep) -> dict[str, int]:
    assert_type(session, Session)
    visits = session.mutate(VISITS, lambda count: count + 1)
    assert_type(visits, int)
    return {"visits": visits}


@app.post("/login")
async def login(session: SessionDep, name: str) -> str:
    await session.login(name, device="laptop")
    assert_type(session.owner, str | None)
    return session.handle


@app.post("/logout-elsewhere")
async def logout_elsewhere(session: SessionDep) -> int:
    if session.owner is None:
        raise HTTPException(401)
    ended = await session.store.revoke_all(session.owner, keep=session)
    assert_type(ended, int)
    return ended


@app.get("/admin")
def admin(session: AdminSession) -> bool:  # a sync handler: reading and writing need no await
    return session.fresh
