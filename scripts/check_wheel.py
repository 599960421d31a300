"""Compares the top-level names in the built wheel with those of the four packages."""

import sys
import zipfile
from pathlib import Path

MEANT = {"sessioncore", "sessioncore_aiohttp", "sessioncore_asgi", "sessioncore_litestar"}


def main(folder: str) -> int:
    """Print the result; 0 if the wheel holds these packages and nothing else."""
    wheel = next(Path(folder).glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    found = {name.split("/")[0] for name in names if ".dist-info" not in name}
    untyped = {package for package in MEANT if f"{package}/py.typed" not in names}
    if found != MEANT or untyped:
        sys.stderr.write(f"{wheel.name} holds {sorted(found)}, without py.typed: {sorted(untyped)}\n")
        return 1
    sys.stdout.write(f"{wheel.name} holds {', '.join(sorted(found))}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
