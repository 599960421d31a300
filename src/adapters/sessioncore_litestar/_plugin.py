"""SessionPlugin installs sessions in a Litestar application."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from click import Group
from litestar import Litestar, Request, WebSocket
from litestar.config.app import AppConfig
from litestar.config.response_cache import ResponseCacheConfig, default_cache_key_builder
from litestar.di import Provide
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.session.base import BaseBackendConfig
from litestar.plugins import CLIPlugin, InitPlugin
from litestar.types import HTTPScope, Scope

from sessioncore import ConfigError, Session, SessionStore
from sessioncore.integration import Warnings, check_beside, check_cookie, check_store
from sessioncore_asgi._exchanges import exchange_of
from sessioncore_litestar._backend import SessionBackend, SessionBackendConfig
from sessioncore_litestar._connection import get_session, with_session
from sessioncore_litestar._middleware import SessionMiddleware

__all__ = ["SessionPlugin"]


class SessionPlugin(InitPlugin, CLIPlugin):
    """Provides `request.session` and, by dependency injection, the parameter `session: Session` in every route.

    `exclude` and `exclude_opt_key` are those of Litestar's middlewares. With `lazy`, the session
    is loaded only if a route has the parameter or awaits `get_session`. A second store needs its
    own `scope_key`, which is also the parameter's name. The plugin opens and closes the storage
    with the lifespan, and adds the command `litestar sessions`.

    Raises:
        ConfigError: `store` is not a SessionStore, or a pattern of `exclude` is empty.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        exclude: str | list[str] | None = None,
        exclude_opt_key: str = "skip_session",
        scope_key: str = "session",
        lazy: bool = False,
    ) -> None:
        check_store(store, "SessionPlugin")
        self.config: SessionBackendConfig = SessionBackendConfig(
            store, exclude=exclude, exclude_opt_key=exclude_opt_key
        )
        self._scope_key = scope_key
        self._lazy = lazy
        self._provided: object = None
        # An item for each application that has opened the storage, and not closed it: in several threads, perhaps.
        self._opened = list[None]()

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Install the middleware, the parameter, the lifespan and the request classes.

        Raises:
            ConfigError: another plugin has this store or this `scope_key`, or the application has a dependency
                of that name or Litestar's own session middleware.
        """
        scope_key = self._scope_key
        _check_middleware(app_config.middleware, scope_key, self.config.store)
        given = app_config.dependencies.get(scope_key)
        for other in app_config.plugins:
            if isinstance(other, SessionPlugin):
                check_beside(other.config.store, other._scope_key, self.config.store, scope_key)  # noqa: SLF001
                if given is other._provided:  # noqa: SLF001 - the other plugin's
                    given = None
        if given is not None:
            raise ConfigError(
                f"this application has a dependency {scope_key!r}, which is also the name of the plugin's parameter; "
                "rename the dependency, or the parameter: SessionPlugin(store, scope_key=...)"
            )

        async def provide(scope: Scope) -> Session:
            return await get_session(scope, scope_key=scope_key)

        backend = SessionBackend(self.config)
        middleware = DefineMiddleware(SessionMiddleware, backend=backend, scope_key=scope_key, lazy=self._lazy)
        app_config.middleware.insert(0, middleware)  # outside of SessionAuth, which inserts itself first, too
        app_config.dependencies[scope_key] = self._provided = Provide(provide)
        app_config.response_cache_config = _without_private_responses(app_config.response_cache_config, scope_key)
        untyped = cast("Any", app_config)
        # Litestar exits every lifespan before it calls on_shutdown, where the storage may still be needed.
        untyped.lifespan = [self._open_storage, *untyped.lifespan]
        untyped.on_shutdown = [*untyped.on_shutdown, self._close_storage]
        untyped.request_class = with_session(untyped.request_class or Request)
        untyped.websocket_class = with_session(untyped.websocket_class or WebSocket)
        return app_config

    @asynccontextmanager
    async def _open_storage(self, _: Litestar) -> AsyncGenerator[None]:
        await self.config.store.__aenter__()
        self._opened.append(None)
        yield

    async def _close_storage(self) -> None:
        if self._opened:  # Litestar calls this even if the storage, or what comes before it, did not open
            self._opened.pop()
            await self.config.store.__aexit__()

    def on_cli_init(self, cli: Group) -> None:
        """Add the command `litestar sessions`; for another `scope_key`, its name with an "s"."""
        from sessioncore.cli import command_group  # noqa: PLC0415 - servers do not need it

        cli.add_command(command_group(f"{self._scope_key.replace('_', '-')}s", self.config.store))


def _check_middleware(entries: Iterable[object], scope_key: str, store: SessionStore) -> None:
    """Refuse Litestar's own sessions, also in SessionAuth, under the same name or with the same cookie."""
    for config in filter(None, map(_other_config, entries)):
        if scope_key == "session":
            raise ConfigError(
                "this application also has Litestar's own session middleware, and both provide request.session; remove "
                "that from middleware=, or use another name: SessionPlugin(store, scope_key=...). SessionAuth takes "
                "session_backend_config=SessionBackendConfig(store)"
            )
        check_cookie(store, config.key, "Litestar's own session middleware")


def _other_config(entry: object) -> BaseBackendConfig[Any] | None:
    """Return the configuration of Litestar's own sessions, if this middleware provides them."""
    if not isinstance(entry, DefineMiddleware):
        return None
    found: object = getattr(entry.kwargs.get("config"), "session_backend_config", None)  # of SessionAuth
    if found is None:
        found = getattr(entry.kwargs.get("backend"), "config", None)
    known = isinstance(found, BaseBackendConfig) and not isinstance(found, SessionBackendConfig)
    return cast("BaseBackendConfig[Any]", found) if known else None


def _without_private_responses(config: ResponseCacheConfig, scope_key: str) -> ResponseCacheConfig:
    """Return a configuration with which Litestar caches no response that used the session.

    Litestar would give it to every visitor. An application that builds the keys itself decides what is shared.
    """
    if cast("Any", config).key_builder is not default_cache_key_builder:
        return config
    can_be_cached, warnings = config.cache_response_filter, Warnings()

    def can_be_shared(scope: HTTPScope, status: int) -> bool:
        found, route = cast("dict[str, Any]", scope), cast("Any", scope["route_handler"])
        exchange = exchange_of(found, scope_key)
        if exchange is None or route.cache_key_builder is not None:
            return can_be_cached(scope, status)
        session = exchange.session
        if not session.accessed and found.get(scope_key) is session:  # else `set_session` has put a value there
            return can_be_cached(scope, status)
        warnings.warn(
            f"the response of {route} is not cached, although its route has cache=, because it used the session: "
            "Litestar would give it to every visitor. If it is the same for all, or your keys tell visitors apart, "
            "pass cache_key_builder= to the route"
        )
        return False

    return replace(config, cache_response_filter=can_be_shared)
