"""The commands that change nothing: count, list and show."""

from collections.abc import Iterator
from typing import Any

import click

from sessioncore._errors import CorruptRecord
from sessioncore._storage_calls import Load, Moved, Stored
from sessioncore._store import SessionStore
from sessioncore.cli._choice import chosen_store, print_result
from sessioncore.cli._failures import FAILED, Failure
from sessioncore.cli._output import json_text, progress, time_text
from sessioncore.cli._run import persistence_of, run, scan
from sessioncore.cli._values import json_value
from sessioncore.codec._record import Record, decode_record
from sessioncore.http._ids import is_handle
from sessioncore.session._arguments import check_owner

__all__ = ["NO_HANDLE", "count", "count_sessions", "list_", "show"]

NO_HANDLE = "there is no live session with this handle; `list --owner` shows the handles of an owner"


@click.command()
def count() -> None:
    """Print how many sessions there are under the key prefix."""
    store = chosen_store()
    number = count_sessions(store)
    where = f"Sessions under the prefix {store.config.key_prefix!r}: {number}"
    print_result({"count": number}, [[str(number)]], [where])


def count_sessions(store: SessionStore) -> int:
    """Count the live sessions of a store, with visible progress."""
    batches = scan(store)

    async def work() -> int:
        total = 0
        async for batch in batches:
            total += len(batch)
            advance(len(batch))
        return total

    with progress("Counting sessions") as advance:
        return run(store, work)


@click.command(name="list")
@click.option("--owner", required=True, metavar="OWNER", help="Whose sessions.")
def list_(owner: str) -> None:
    """List the live sessions of an owner, newest first: handle, times, details.

    Without --app, the time of the last use is unknown, and the time of the last write is shown instead.
    """
    store = chosen_store()
    check_owner(owner)
    owners = persistence_of(store).owners
    sessions = [
        {
            "handle": owned.handle,
            "created_at": time_text(owned.record.created_at),
            "last_seen_at": time_text(owned.last_seen),
            "expires_at": time_text(owned.expires),
            "details": json_value(owned.record.details),
        }
        for owned in run(store, lambda: owners.newest_first(owner))
    ]
    rows = [[*list(map(str, session.values()))[:4], json_text(session["details"])] for session in sessions]
    lines = [
        f"{handle}\n  created {created}, last seen {seen}, expires {expires}\n  {details}"
        for handle, created, seen, expires, details in rows
    ]
    print_result(sessions, rows, [line for block in lines for line in block.split("\n")])
    if not sessions:
        raise Failure(FAILED, "this owner has no live session")


@click.command()
@click.argument("handle")
@click.option("--values", is_flag=True, help="Show the values, too.")
def show(handle: str, values: bool) -> None:
    """Show one session: its owner, times, details and the names of its keys."""
    store = chosen_store()
    stored = run(store, lambda: _load(store, handle))
    record = decode_record(stored.data, store.config.max_size)
    now = store.config.clock()
    left = persistence_of(store).lifetimes.remaining(record, stored.ttl, now)
    if left <= 0:
        raise Failure(FAILED, NO_HANDLE)
    data = _described(handle, record, len(stored.data), now + left)
    if values:
        data["values"] = {key: json_value(raw) for key, raw in record.data.items()}
    rows = list(_rows(data))
    print_result(data, rows, [": ".join(row) for row in rows])


async def _load(store: SessionStore, handle: str) -> Stored:
    """Load a record without renewing it.

    Raises:
        Failure: there is none, it has moved, or it cannot be read.
    """
    if not is_handle(handle):
        raise Failure(FAILED, f"{NO_HANDLE}; a handle has 64 hexadecimal digits")
    found = await persistence_of(store).driver.call(Load(store.config.key_prefix + handle))
    if isinstance(found, Stored):
        return found
    if isinstance(found, Moved):
        raise Failure(FAILED, "moved: a login or a regeneration gave this session a new ID, and so a new handle")
    if found is None:
        raise Failure(FAILED, NO_HANDLE)
    raise CorruptRecord("what is stored under this handle was not written by sessioncore, or cannot be read")


def _described(handle: str, record: Record, size: int, expires: float) -> dict[str, Any]:
    return {
        "handle": handle,
        "owner": record.owner,
        "created_at": time_text(record.created_at),
        "written_at": time_text(record.written_at),
        "expires_at": time_text(expires),
        "idle_timeout": record.idle,
        "absolute_timeout": record.absolute,
        "persistent": record.persistent,
        "bytes": size,
        "details": json_value(record.details),
        "keys": list(record.data),
    }


def _rows(data: dict[str, Any]) -> Iterator[list[str]]:
    """Yield name and value of each line; keys and values have one each."""
    for name, value in data.items():
        if name == "keys":
            if "values" not in data:
                yield from (["key", key] for key in value)
        elif name == "values":
            yield from (["value", key, json_text(one)] for key, one in value.items())
        else:
            yield [name, value if isinstance(value, str) else "" if value is None else json_text(value)]
