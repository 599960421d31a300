"""Asks pyright whether users of the four packages see a type for every public name; prints what is incomplete."""

import os
import subprocess
import sys
from pathlib import Path

from check_wheel import MEANT

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Check each package; 0 if all are complete."""
    here = Path(sys.executable).parent
    # pyright looks for packages where the `python` on the PATH would, and nowhere else.
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(here), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "src" / "adapters")]),
    }
    failed = 0
    for package in sorted(MEANT):
        command = [str(here / "pyright"), "--ignoreexternal", "--verifytypes", package]
        run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        if run.returncode:
            sys.stderr.write(run.stdout + run.stderr)
            failed = 1
        else:
            sys.stdout.write(f"{package}: every public name has a type\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
