"""Which store a command works on, and how it prints, as its options and the environment say."""

import json
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import click

from sessioncore._config import SessionConfig
from sessioncore._errors import SessionError
from sessioncore._store import SessionStore
from sessioncore.cli._failures import USAGE, Failure
from sessioncore.cli._output import printable
from sessioncore.storage import storage_from_url

__all__ = ["STORE_KEY", "chosen_config", "chosen_store", "json_option", "print_result", "store_options", "wants_json"]

STORE_KEY: Final = "sessioncore.store"
_OPTIONS: Final = "sessioncore.options"
_STORAGE, _PREFIX = "SESSIONCORE_STORAGE", "SESSIONCORE_KEY_PREFIX"
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep an option that was given; one after the command is read later, and so wins."""
    if value is not None and value is not False:
        ctx.meta.setdefault(_OPTIONS, {})[param.name] = value


def store_options() -> list[click.Option]:
    """Return the options that choose a store."""
    texts = {
        "--storage": ("URL", f"Where the sessions are, such as redis://host/0 (or the variable {_STORAGE})."),
        "--key-prefix": ("TEXT", f'The store\'s key_prefix, "session:" if left out (or {_PREFIX}).'),
        "--app": ("MODULE:NAME", "The SessionStore of an application, instead of a URL."),
    }
    return [
        click.Option([name], metavar=metavar, help=text, expose_value=False, callback=_remember)
        for name, (metavar, text) in texts.items()
    ]


def json_option() -> click.Option:
    """Return the option that asks for JSON."""
    return click.Option(["--json"], is_flag=True, help="Print JSON.", expose_value=False, callback=_remember)


def _options() -> dict[str, Any]:
    given: dict[str, Any] = click.get_current_context().meta.get(_OPTIONS, {})
    return given


def wants_json() -> bool:
    """Return whether the result is to be JSON."""
    return bool(_options().get("json"))


def print_result(data: Any, rows: Iterable[Sequence[str]], lines: Iterable[str]) -> None:
    """Print the result: as JSON if that was chosen, as sentences on a terminal, as tab-separated rows in a pipe."""
    if wants_json():
        click.echo(json.dumps(data, allow_nan=False))
    elif sys.stdout.isatty():
        for line in lines:
            click.echo(printable(line))
    else:
        for row in rows:
            click.echo("\t".join(map(printable, row)))
    sys.stdout.flush()


def chosen_store() -> SessionStore:
    """Return the store that was chosen.

    Raises:
        UsageError: no store was chosen, or two were.
        ConfigError: the URL or the prefix cannot work.
        Failure: the application cannot be imported, or is no store.
    """
    given = click.get_current_context().meta[STORE_KEY]
    if given is not None:
        assert isinstance(given, SessionStore)
        return given
    options = _options()
    app, url, prefix = options.get("app"), options.get("storage"), options.get("key_prefix")
    if app is not None and (url is not None or prefix is not None):
        raise click.UsageError("--app brings its storage and its key_prefix: give either --app or --storage")
    if app is not None:
        store = _imported(app)
        if not isinstance(store, SessionStore):
            raise Failure(USAGE, f"{app} is not a SessionStore, but a {type(store).__name__}")
        return store
    url = os.environ.get(_STORAGE) if url is None else url
    if not url:
        raise click.UsageError(f"give --storage URL or the variable {_STORAGE}, or --app module:attribute")
    return _store_at(url, os.environ.get(_PREFIX) or None if prefix is None else prefix)


def chosen_config(target: str | None) -> SessionConfig:
    """Return the configuration of a SessionStore, or a SessionConfig, to be audited.

    Raises:
        UsageError: none was chosen.
        Failure: it cannot be imported, or is neither.
    """
    found: object = click.get_current_context().meta[STORE_KEY]
    target = target or _options().get("app")
    if target is not None:
        found = _imported(target)
    elif found is None:
        raise click.UsageError("give the configuration to audit: module:attribute, a SessionStore or SessionConfig")
    if isinstance(found, SessionStore):
        return found.config
    if not isinstance(found, SessionConfig):
        raise Failure(USAGE, f"{target} is neither a SessionStore nor a SessionConfig, but a {type(found).__name__}")
    return found


def _store_at(url: str, prefix: str | None) -> SessionStore:
    """Return a store for a URL.

    The application's timeouts and its size limit are not known here, and no session that is live there may seem
    to have expired. So this store has neither: each record says itself when it ends.
    """
    # Only `migrate` creates a table.
    options = {"create_table": False} if url.strip().lower().startswith("postgres") else {}
    return SessionStore(
        SessionConfig(
            storage=storage_from_url(url, **options),
            idle_timeout=timedelta(days=36500),
            absolute_timeout=None,
            max_size=sys.maxsize,
            key_prefix=SessionConfig.key_prefix if prefix is None else prefix,
        )
    )


def _imported(target: str) -> object:
    """Import what the operator names as `module:attribute`; nothing that is stored is ever imported."""
    if not _TARGET.fullmatch(target):
        raise click.UsageError("an application is named as module:attribute, such as shop.sessions:store")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        with redirect_stdout(sys.stderr):  # what an application prints at start is no part of our output
            return pkgutil.resolve_name(target)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        raise Failure(USAGE, f"{target} cannot be imported: {_reason(exc)}") from exc


def _reason(exc: BaseException) -> str:
    """Say what went wrong, and where, without the text of a foreign error: it may quote a URL with its password."""
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        return f"there is no module {exc.name!r}"
    if isinstance(exc, SessionError):
        return str(exc)
    location = _location_of(exc)
    if isinstance(exc, AttributeError) and location and location[0] == pkgutil.__file__:
        return f"the module has no {exc.name!r}"
    return type(exc).__name__ + (f" at {location[0]}:{location[1]}" if location else "")


def _location_of(exc: BaseException) -> Sequence[object] | None:
    if isinstance(exc, SyntaxError):
        return (exc.filename, exc.lineno) if exc.filename else None
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return None if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)
