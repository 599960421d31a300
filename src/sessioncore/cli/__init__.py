"""The command line: lists, ends and cleans up sessions.

`command_group` returns the commands for one store, so that another program can offer them.
"""

from sessioncore._extras import needs_extra

with needs_extra("cli"):
    from sessioncore.cli._main import command_group, run_command_line

__all__ = ["command_group", "run_command_line"]
