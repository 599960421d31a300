"""For FastAPI: annotate a parameter as `session: SessionDep`.

`SessionDep` is the session of the middleware with the default `scope_key`; for another store
write `Annotated[Session, Depends(session_dependency("admin"))]`. In tests,
`app.dependency_overrides` takes `get_session` or `session_dependency("admin")`.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

import sessioncore_asgi
from sessioncore import Session
from sessioncore.integration import needs_extra

with needs_extra("fastapi"):
    from fastapi import Depends
    from fastapi.requests import HTTPConnection

__all__ = ["SessionDep", "get_session", "session_dependency"]


async def get_session(connection: HTTPConnection) -> Session:
    """Return the session of a request or WebSocket: the dependency behind `SessionDep`.

    Raises:
        SessionNotLoaded: there is no middleware with the default `scope_key`, or the request is skipped.
        StorageUnavailable: the session could not be loaded.
        CrossSiteRequest: another site made this request with the session's cookie.
    """
    return await sessioncore_asgi.get_session(connection)


@functools.cache
def session_dependency(scope_key: str = "session") -> Callable[[HTTPConnection], Awaitable[Session]]:
    """Return the dependency that provides the session for `scope_key`, each time the same one."""
    if scope_key == "session":
        return get_session

    async def session(connection: HTTPConnection) -> Session:
        return await sessioncore_asgi.get_session(connection, scope_key=scope_key)

    return session


SessionDep: TypeAlias = Annotated[Session, Depends(get_session)]
