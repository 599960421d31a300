"""The command `sessioncore`, also as `python -m sessioncore`."""

import os
import sys

__all__ = ["main"]


def main() -> int:
    """Run the command, and return its exit code."""
    try:
        from sessioncore.cli import run_command_line  # noqa: PLC0415 - its packages may be missing

        return run_command_line(sys.argv[1:])
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0]
        if package not in {"click", "rich"}:
            raise
        sys.stderr.write(f"This command needs {package}, which is not installed: pip install 'sessioncore[cli]'\n")
        return 2
    except KeyboardInterrupt:  # before the command began
        return 130


if __name__ == "__main__":
    # `python -m` lets the current folder come first: a file redis.py there would take the place of the driver.
    if not sys.flags.safe_path and sys.path and sys.path[0] == os.getcwd():  # noqa: PTH109 - compared as text
        del sys.path[0]
    sys.exit(main())
