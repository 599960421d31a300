"""For FastAPI: annotate a parameter as `session: SessionDep`.

`SessionDep` is the session of the middleware with the default `scope_key`; for another store
write `Annotated[Session, Depends(session_dependency("admin"))]`.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

try:
    from fastapi import Depends
    from fastapi.requests import HTTPConnection
except ModuleNotFoundError as _exc:
    if _exc.name != "fastapi":
        raise
    raise ModuleNotFoundError(
        "sessioncore_asgi.fastapi needs FastAPI: pip install 'sessioncore[fastapi]'", name=_exc.name
    ) from _exc

from sessioncore import Session
from sessioncore_asgi import get_session

__all__ = ["SessionDep", "session_dependency"]


def session_dependency(scope_key: str = "session") -> Callable[[HTTPConnection], Awaitable[Session]]:
    """Return the dependency that provides the session for `scope_key`."""

    async def session(connection: HTTPConnection) -> Session:
        return await get_session(connection, scope_key=scope_key)

    return session


SessionDep: TypeAlias = Annotated[Session, Depends(session_dependency())]
