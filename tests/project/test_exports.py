"""The public names: exactly the intended ones, each defined, each documented."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sessioncore

PUBLIC: dict[str, str] = {
    "sessioncore": """
        SessionStore SessionConfig Session SessionKey SessionInfo SessionEvent EventKind Extractor Source RequestView
        Exchange from_cookie from_header from_auth_header from_query from_form from_param chain from_lookup
        MemoryStorage SQLiteStorage Storage Stored Moved Unreadable Done storage_from_url audit Finding SessionError
        ConfigError StorageError StorageListener StorageUnavailable
        CodecError UnregisteredType CorruptRecord SessionTooLarge LifecycleError SessionGone
        SessionReleased SessionNotLoaded ResponseStarted SessionNotFound OwnerLimitReached CrossSiteRequest __version__
    """,
    "sessioncore.cli": "command_group run_command_line",
    "sessioncore.forms": "MAX_FORM form_field is_form",
    "sessioncore.integration": "ErrorResponse check_beside check_scope_key check_store check_vacant warn_if_replaced",
    "sessioncore.storage": """
        AnswersNow BoundsCalls Call Clears Create Delete KeepsTombstones KeyTaken LATER Later Load LoadsMany
        MemoryStorage Move Moved Opens PROBE_SUFFIX Purges Replace Reply SQLiteStorage Scans SpreadsKeys Storage Stored
        Touch Unreadable WritesRefused Written capabilities_of storage_from_url
    """,
    "sessioncore.storage.redis": "NearCache NearCacheStats RedisStorage",
    "sessioncore.storage.postgres": "PostgresStorage",
    "sessioncore.storage.keyvalue": "KeyValueStorage",
    "sessioncore.telemetry": "OpenTelemetry StorageListener log_events",
    "sessioncore_asgi": "SessionMiddleware get_session",
    "sessioncore_asgi.fastapi": "SessionDep get_session session_dependency",
    "sessioncore_aiohttp": "setup session_middleware get_session",
    "sessioncore_litestar": "SessionPlugin SessionBackendConfig get_session",
}


def test_the_promised_names_are_there_listed_and_explained() -> None:
    for module, names in PUBLIC.items():
        loaded = importlib.import_module(module)
        assert set(names.split()) <= set(loaded.__all__)
        assert all(hasattr(loaded, name) for name in loaded.__all__)
        things = {name: getattr(loaded, name) for name in names.split()}
        explicable = {
            name: thing for name, thing in things.items() if inspect.isclass(thing) or inspect.isroutine(thing)
        }
        silent = [name for name, thing in explicable.items() if not thing.__doc__]
        for name, thing in explicable.items():
            if inspect.isclass(thing):
                silent += [f"{name}.{part}" for part, member in members(thing) if not inspect.getdoc(member)]
        assert silent == []
    assert set(sessioncore.__all__) == set(PUBLIC["sessioncore"].split())
    for name in ("Extractor", "Finding", "SessionEvent", "SessionInfo", "Stored"):  # not the docstring of Struct
        assert "Struct" not in (getattr(sessioncore, name).__doc__ or "Struct")


def modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(sessioncore.__path__, "sessioncore.")]
    adapters = [path for path in Path("src/adapters").iterdir() if path.name.startswith("sessioncore_")]
    for folder in adapters:
        found += [folder.name] + [
            f"{folder.name}.{path.stem}" for path in folder.glob("[a-z_]*.py") if path.stem[:2] != "__"
        ]
    return ["sessioncore", *found]


def test_each_module_says_what_it_is_for_and_its_all_is_sorted_unique_and_real() -> None:
    for module in modules():
        loaded = importlib.import_module(module)
        assert loaded.__doc__, module
        names: list[str] = list(getattr(loaded, "__all__", ()))
        # Constants, then classes, then the rest: the order that the linter keeps.
        assert names == sorted({*names}, key=lambda name: (not name.isupper(), not name[:1].isupper(), name)), module
        assert all(hasattr(loaded, name) for name in names)


def members(owner: Any) -> Iterator[tuple[str, Any]]:
    own: dict[str, Any] = owner.__dict__
    for name, member in own.items():
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, (property, classmethod))):
            yield name, member
