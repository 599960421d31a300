"""The command that ends sessions."""

from collections.abc import Callable
from functools import partial

import click

from sessioncore._storage_capabilities import Clears
from sessioncore._storage_protocol import capability
from sessioncore._store import SessionStore
from sessioncore.cli._choice import chosen_store, print_result
from sessioncore.cli._failures import FAILED, USAGE, Failure
from sessioncore.cli._look import NO_HANDLE, count_sessions
from sessioncore.cli._output import confirmed, note, progress
from sessioncore.cli._run import persistence_of, run, scan
from sessioncore.http._ids import is_handle

__all__ = ["revoke"]


@click.command()
@click.argument("handle", required=False)
@click.option("--owner", metavar="OWNER", help="End all sessions of this owner.")
@click.option("--keep", metavar="HANDLE", help="With --owner: except this one.")
@click.option("--all", "everyone", is_flag=True, help="End all sessions under the key prefix.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
def revoke(handle: str | None, owner: str | None, keep: str | None, everyone: bool, yes: bool) -> None:
    """End one session, the sessions of an owner, or all."""
    if [handle is not None, owner is not None, everyone].count(True) != 1:
        raise click.UsageError("give a HANDLE, or --owner OWNER, or --all")
    if (keep is not None and owner is None) or (yes and not everyone):
        raise click.UsageError("--keep belongs to --owner, and --yes to --all")
    if keep is not None and not is_handle(keep):
        raise click.UsageError("--keep takes a handle: 64 hexadecimal digits, as `list` shows them")
    store = chosen_store()
    if handle is not None:
        ended = int(run(store, lambda: store.revoke(handle)))
        missing = NO_HANDLE
    elif owner is not None:
        ended = run(store, lambda: _revoke_owned(store, owner, keep))
        missing = "this owner has no session to end"
    else:
        ended, missing = _revoke_all(store, yes), ""
    print_result({"revoked": ended}, [[str(ended)]], [f"Sessions ended: {ended}"])
    if not ended and missing:
        raise Failure(FAILED, missing)


async def _revoke_owned(store: SessionStore, owner: str, keep: str | None) -> int:
    if keep is not None:
        kept = await persistence_of(store).owners.load_moved(keep)
        if kept is None or kept.record.owner != owner:
            raise Failure(FAILED, "this owner has no live session with the handle of --keep: nothing was ended")
    return await store.revoke_all(owner, keep=keep)


def _revoke_all(store: SessionStore, yes: bool) -> int:
    if capability(store.storage, Clears) is None:
        raise Failure(USAGE, f"{type(store.storage).__name__} cannot delete by prefix")
    total = count_sessions(store)
    if not yes and not confirmed(f"End all sessions under the prefix {store.config.key_prefix!r}, {total} at present?"):
        raise Failure(FAILED, "nothing was ended")
    done = 0

    def ended(number: int) -> None:
        nonlocal done
        done += number
        advance(number)

    with progress("Ending sessions", total) as advance:
        try:
            return run(store, lambda: _end_all(store, ended))
        except KeyboardInterrupt:
            note(f"Sessions ended until then: {done}")
            raise


async def _end_all(store: SessionStore, ended: Callable[[int], None]) -> int:
    """End all sessions, a few hundred at a time; then what no listing shows.

    These are tombstones, sessions that began or moved meanwhile, and what cannot be read.
    """
    total, unbounded = 0, persistence_of(store).driver.unbounded
    async for batch in scan(store):
        number = await unbounded("delete", partial(store.storage.delete, *batch))
        total += number
        ended(number)
    return total + await store.reset()
