"""How a command ends when it cannot do what it was asked to: a sentence on stderr, and an exit code."""

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import click

from sessioncore._errors import ConfigError, SessionError, StorageError
from sessioncore.cli._output import discard_output, printable

__all__ = ["FAILED", "UNREACHABLE", "USAGE", "Failure", "explained"]

FAILED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

# Options, commands and small numbers. Anything else on a command line may be a URL with a password, or an ID.
_HARMLESS = re.compile(r"-{0,2}[A-Za-z-]{1,20}|\d{1,6}")


class Failure(click.ClickException):
    """A command that has failed, with its exit code."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # type: ignore[misc]  # click's is for a whole class


@contextmanager
def explained(words: Sequence[str]) -> Generator[None]:
    """Turn errors into failures, and the interruption by Ctrl-C into its exit code; `words` is the command line."""
    try:
        yield
    except click.UsageError as exc:
        if not words:  # then click's error is the help text, which shows itself
            raise
        raise click.UsageError(printable(_without_values(exc.format_message(), words)), exc.ctx) from None
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # `| head` has read enough; click would exit with 1, which says that nothing was found
        discard_output()
        raise click.exceptions.Exit(0) from None
    except SessionError as exc:
        raise Failure(_code_of(exc), str(exc)) from exc


def _code_of(exc: SessionError) -> int:
    if isinstance(exc, StorageError):
        return UNREACHABLE
    return USAGE if isinstance(exc, ConfigError) else FAILED


def _without_values(message: str, words: Sequence[str]) -> str:
    """Return a message about the command line without what was given on it, but for options and commands."""
    for word in words:
        for part in (word, word.partition("=")[2]):
            if part and not _HARMLESS.fullmatch(part):
                message = message.replace(part, "...").replace(repr(part)[1:-1], "...")
    return message
