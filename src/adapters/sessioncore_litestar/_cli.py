"""The command `litestar sessions`, which manages sessions from a terminal.

It uses handles, never IDs, because a shell keeps its commands in a history.
"""

import shutil
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar

import anyio
import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sessioncore import MemoryStorage, SessionError, SessionInfo, SessionStore

__all__ = ["commands"]

T = TypeVar("T")
WIDE: Final = 150  # columns: enough for a handle, three times and some details


def commands(name: str, store: SessionStore) -> click.Group:
    """Return the group of commands for one store."""

    @click.group(name=name)
    def group() -> None:
        """Manage the sessions of this application."""

    @group.command()
    @click.argument("owner")
    def count(owner: str) -> None:
        """Print how many live sessions OWNER has."""
        Console().print(len(_run(store, lambda: store.sessions_of(owner))))

    @group.command(name="list")
    @click.argument("owner")
    def list_(owner: str) -> None:
        """List the live sessions of OWNER, newest first."""
        # A handle must not wrap, so that it can be copied: in a narrow terminal, the rest goes to a second line.
        gap = "  " if shutil.get_terminal_size((WIDE, 1)).columns >= WIDE else "\n  "
        click.echo(f"{'handle':64}{gap}{'since':20}  {'last seen':20}  {'until':20}  details")
        for info in _run(store, lambda: store.sessions_of(owner)):
            click.echo(_format_line(info, gap))

    @group.command()
    @click.argument("handle")
    @click.option("--owner", help="Only if the session is theirs.")
    def revoke(handle: str, owner: str | None) -> None:
        """End the session with this HANDLE."""
        if not _run(store, lambda: store.revoke(handle, owner=owner)):
            raise click.ClickException("there is no live session with this handle; `list OWNER` shows the handles")
        click.echo("The session was ended.")

    @group.command()
    def purge() -> None:
        """Remove expired records from storages that do not remove them themselves."""
        with Progress(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as progress:
            task = progress.add_task("removing expired records", total=None)
            removed = _run(store, store.purge_expired)
            progress.update(task, total=1, completed=1)
        click.echo(f"Expired records removed: {removed}")

    @group.command()
    @click.confirmation_option(prompt="End every session of this application?")
    def clear() -> None:
        """End every session of every client."""
        click.echo(f"Sessions ended: {_run(store, store.reset)}")

    return group


def _run(store: SessionStore, work: Callable[[], Awaitable[T]]) -> T:
    """Open the storage, do the work, and close the storage."""
    if isinstance(store.storage, MemoryStorage):
        raise click.ClickException(
            "these sessions are in the server's memory, which this process cannot access; use another storage"
        )

    async def main() -> T:
        async with store:
            return await work()

    try:
        return anyio.run(main)
    except SessionError as exc:
        raise click.ClickException(str(exc)) from exc


def _format_line(info: SessionInfo, gap: str) -> str:
    times = "  ".join(map(_format_time, (info.created_at, info.last_seen_at, info.expires_at)))
    details = ", ".join(f"{key}={value!r}" for key, value in info.details.items())
    return f"{info.handle}{gap}{times}  {details}".rstrip()


def _format_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
