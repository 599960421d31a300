"""The group of all commands, for `sessioncore` itself or for the store of an application."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from copy import copy
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

import click

from sessioncore import __version__
from sessioncore._store import SessionStore
from sessioncore.cli._choice import STORE_KEY, json_option, store_options
from sessioncore.cli._end import revoke
from sessioncore.cli._failures import USAGE, explained
from sessioncore.cli._look import count, list_, show
from sessioncore.cli._operate import audit, check, migrate, purge
from sessioncore.cli._output import discard_output

__all__ = ["command_group", "run_command_line"]

_COMMANDS: tuple[click.Command, ...] = (audit, check, count, list_, migrate, purge, revoke, show)
_HELP = "List, end and clean up the sessions in a storage. You name sessions by their handles, never by their IDs."


class _Group(click.Group):
    """A group whose errors and interruptions end with a sentence and an exit code."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: object
    ) -> click.Context:
        """Read the options before the command."""
        words = tuple(args)
        with explained(words):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[__name__] = words
        return context

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        with explained(ctx.meta[__name__]):
            return super().invoke(ctx)


def command_group(name: str, store: SessionStore | None = None) -> click.Group:
    """Return a group of all commands; with `store`, they work on that store and have no options to choose another."""
    options = [json_option()] if store is not None else [*store_options(), json_option()]

    def remember() -> None:
        click.get_current_context().meta[STORE_KEY] = store

    group = _Group(name, callback=remember, help=_HELP, params=list[click.Parameter](options), no_args_is_help=True)
    for command in _COMMANDS:
        own = copy(command)
        own.params = [*command.params, *options]  # they may also come after the command
        group.add_command(own)
    return group


class _WithoutTraceback(logging.Formatter):
    def formatException(self, ei: object) -> str:  # noqa: N802 - named by the standard library
        """Return nothing: what an operator can do is in the message."""
        return ""


def _null_device(mode: str) -> TextIO:
    return cast("TextIO", Path(os.devnull).open(mode))


def _unwritable() -> TextIO:
    """Return a stream on which writing fails, as on a closed descriptor: results must not be lost silently."""
    return cast("TextIO", os.fdopen(os.open(os.devnull, os.O_RDONLY), "w"))


def run_command_line(arguments: Sequence[str]) -> int:
    """Run a command as a program of its own, and return its exit code."""
    # Python sets a stream to None if the program was started with it closed.
    sys.stdin = sys.stdin or _null_device("r")
    sys.stdout = sys.stdout or _unwritable()
    sys.stderr = sys.stderr or _null_device("w")
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_WithoutTraceback("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.ERROR, handlers=[handler])  # `check` alone shows warnings
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    program = click.version_option(__version__)(command_group("sessioncore"))
    try:
        result = program.main([*arguments], prog_name="sessioncore", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except OSError as exc:  # from writing the output; `explained` handles the storage's
        discard_output()
        click.echo(f"Error: the output cannot be written: {exc.strerror}", err=True)
        return USAGE
    return result if isinstance(result, int) else 0
