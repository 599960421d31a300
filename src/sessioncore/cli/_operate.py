"""The commands for operators of the storage: purge, check, audit and migrate."""

import logging
import math
import signal
from typing import Protocol, runtime_checkable

import anyio
import click

from sessioncore._audit import audit as findings_of
from sessioncore._errors import SessionError, StorageError, StorageUnavailable
from sessioncore._store import SessionStore
from sessioncore.cli._choice import chosen_config, chosen_store, print_result, wants_json
from sessioncore.cli._failures import FAILED
from sessioncore.cli._output import json_text, note, progress
from sessioncore.cli._run import check_place, open_storage, run
from sessioncore.concurrency._task_group import TaskGroup
from sessioncore.persistence._purging import pause_between

__all__ = ["audit", "check", "migrate", "purge"]


@click.command()
@click.option(
    "--every", type=click.FloatRange(0.1, 366 * 86400), metavar="SECONDS", help="Repeat after this time, until SIGTERM."
)
def purge(every: float | None) -> None:
    """Remove expired records from the whole table, that is, of all key prefixes.

    For SQLite, PostgreSQL and key-value stores. Redis removes records by itself; here it removes entries of indexes.
    """
    if every is not None and math.isnan(every):  # no range excludes it
        raise click.BadParameter("nan is not a number of seconds", param_hint="--every")
    store = chosen_store()
    note("Expired records are removed from the whole table, whatever their key prefix.")
    if every is not None:
        run(store, lambda: _purge_until_stopped(store, every), opened=False)
        return
    with progress("Removing expired records"):
        number = run(store, store.purge_expired)
    _print_purged(number)


def _print_purged(number: int) -> None:
    print_result({"purged": number}, [[str(number)]], [f"Expired records removed: {number}"])


async def _purge_until_stopped(store: SessionStore, seconds: float) -> None:
    """Purge about every `seconds` until SIGTERM; an outage is reported, and purging goes on.

    Raises:
        StorageError: the storage is set up wrong, and no purge has succeeded yet.
    """
    failure: SessionError | OSError | None = None  # OSError: the output cannot be written
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with TaskGroup() as tasks:

            async def stop() -> None:
                async for _ in signals:
                    tasks.cancel()

            tasks.start_soon(stop)
            try:
                await _purge_forever(store, seconds)
            except (SessionError, OSError) as exc:
                failure = exc
                tasks.cancel()
    if failure is not None:  # not raised in the group, which would wrap it
        raise failure


async def _purge_forever(store: SessionStore, seconds: float) -> None:
    opened = purged = False
    while True:
        try:
            if not opened:
                await open_storage(store)
                opened = True
            _print_purged(await store.purge_expired())
            purged = True
        except StorageError as exc:
            if not purged and not isinstance(exc, StorageUnavailable):
                raise
            note(f"Not purged: {exc}")
        await anyio.sleep(pause_between(seconds))


@click.command()
def check() -> None:
    """Prove that logins will work, with a record that is not a session."""
    store = chosen_store()
    logging.getLogger("sessioncore").setLevel(logging.WARNING)  # what weakens a promise is logged
    run(store, store.check)
    print_result({"ok": True}, [["ok"]], ["The storage works: logins are possible."])


@click.command()
@click.argument("target", required=False, metavar="MODULE:NAME")
def audit(target: str | None) -> None:
    """Check a SessionStore or SessionConfig against OWASP ASVS 5; exit with 1 if there are findings."""
    findings = findings_of(chosen_config(target))
    print_result(
        [{"severity": one.severity, "id": one.id, "text": one.text, "fix": one.fix} for one in findings],
        [[one.severity, one.id, one.text, one.fix] for one in findings],
        [f"{one.severity}: {one.id}: {one.text}. To fix it: {one.fix}" for one in findings] or ["No findings."],
    )
    if findings:
        raise click.exceptions.Exit(FAILED)


@runtime_checkable
class _Migrates(Protocol):
    """A storage with a table."""

    @property
    def migration_sql(self) -> str: ...
    async def migrate(self) -> None: ...


@click.command()
@click.option("--print", "show", is_flag=True, help="Print the SQL, and change nothing.")
def migrate(show: bool) -> None:
    """Create the table of the storage, or upgrade an earlier version's; a second run changes nothing."""
    store = chosen_store()
    storage: object = store.storage
    if not isinstance(storage, _Migrates):
        check_place(store)
        print_result({"migrated": False}, [["nothing to migrate"]], ["This storage has no table: nothing to migrate."])
    elif show:
        sql = storage.migration_sql
        click.echo(json_text({"sql": sql}) if wants_json() else sql.rstrip("\n"))
    else:
        run(store, storage.migrate, opened=False)
        print_result({"migrated": True}, [["migrated"]], ["The table is up to date."])
