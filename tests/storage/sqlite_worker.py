"""A process of its own for the SQLite tests: `increment PATH TIMES` or `write PATH` (until it is killed)."""

import sys

import anyio

from sessioncore import Unreadable
from sessioncore.storage import SQLiteStorage, Stored


async def increment(path: str, times: int) -> None:
    """Count up one record, against everyone else who does."""
    storage = SQLiteStorage(path)

    async def loop() -> None:
        for _ in range(times):
            current = await storage.load("counter")
            while True:
                assert isinstance(current, Stored)
                data = b"%d" % (int(current.data) + 1)
                result = await storage.replace("counter", data, 1000, version=current.version)
                if isinstance(result, int):
                    break
                assert isinstance(result, Stored)
                current = result

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(loop)
    await storage.aclose()


async def write(path: str) -> None:
    """Create records from ten tasks, and print the key of each that was acknowledged."""
    storage = SQLiteStorage(path)

    async def loop(name: int) -> None:
        for number in range(1_000_000):
            key = f"{name}-{number}"
            result: int | Stored | Unreadable | None = await storage.create(key, key.encode() * 200, 1000, owner="u")
            assert result is not None
            sys.stdout.write(key + "\n")
            sys.stdout.flush()

    async with anyio.create_task_group() as tasks:
        for name in range(10):
            tasks.start_soon(loop, name)


if __name__ == "__main__":
    if sys.argv[1] == "increment":
        anyio.run(increment, sys.argv[2], int(sys.argv[3]))
    else:
        anyio.run(write, sys.argv[2])
