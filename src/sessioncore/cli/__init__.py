"""The command line: sees, ends and cleans up sessions without a line of code.

`command_group` returns the commands for one store, to be added to another program's.
"""

from sessioncore.cli._main import command_group, run_command_line

__all__ = ["command_group", "run_command_line"]
