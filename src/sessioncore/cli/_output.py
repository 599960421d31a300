"""What a command prints besides its result, and how text is shown.

Owners, details and key names come from visitors: whatever is in them is shown as text.
"""

import json
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sessioncore.codec._record import datetime_of

__all__ = ["confirmed", "discard_output", "json_text", "note", "printable", "progress", "time_text"]


def printable(text: str) -> str:
    """Return `text`; characters that a terminal would not show are escaped as in JSON."""
    return "".join(part if part.isprintable() else json.dumps(part)[1:-1] for part in text)


def json_text(value: Any) -> str:
    """Return a line of JSON in which letters stay readable."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def time_text(seconds: float) -> str:
    """Return a time as ISO 8601, in UTC."""
    return datetime_of(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def discard_output() -> None:
    """Discard what is still in stdout's buffer: Python flushes it at exit, and would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def note(text: str) -> None:
    """Print a line to stderr that is not a result."""
    click.echo(printable(text), err=True)


@contextmanager
def progress(description: str, total: int | None = None) -> Generator[Callable[[int], None]]:
    """Show progress on a terminal; call the yielded function with the number of finished items."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(description, total=total)
        yield lambda number: bars.advance(task, number)


def confirmed(question: str) -> bool:
    """Ask on stderr, so that the question does not end up in a pipe; if the input ends, the answer is no."""
    click.echo(f"{printable(question)} [y/N] ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer:
        click.echo(err=True)
    return answer.strip().lower() in {"y", "yes"}
