"""A separate process for the SQLite tests: `open PATH`, `fork PATH`, or, until it is killed, `write` or `move PATH`."""

import os
import sys

import anyio

from sessioncore import StorageError, Stored
from sessioncore.storage import SQLiteStorage


async def write(path: str) -> None:
    """Create records from ten tasks, and print the key of each that was acknowledged."""
    storage = SQLiteStorage(path)

    async def loop(name: int) -> None:
        for number in range(1_000_000):
            key = f"{name}-{number}"
            assert await storage.create(key, key.encode() * 200, 1000, owner="u") is not None
            sys.stdout.write(key + "\n")
            sys.stdout.flush()

    async with anyio.create_task_group() as tasks:
        for name in range(10):
            tasks.start_soon(loop, name)


async def move(path: str) -> None:
    """Move one record from key to key, with tombstones, and print each key that was acknowledged."""
    storage = SQLiteStorage(path)
    name = os.getpid()
    version: object = await storage.create(f"{name}-0", b"data", 1000, owner="u")
    for number in range(1, 1_000_000):
        assert isinstance(version, int)
        old, key = f"{name}-{number - 1}", f"{name}-{number}"
        version = await storage.move(old, key, b"data", 1000, version=version, owner="u", tombstone=20)
        sys.stdout.write(key + "\n")
        sys.stdout.flush()


def fork(path: str) -> None:
    """Use a file before and after a fork, and print the child's errors and what the parent still reads."""
    storage = SQLiteStorage(path)
    anyio.run(storage.create, "k", b"kept", 1000)
    if (child := os.fork()) == 0:
        for own in (storage, storage, SQLiteStorage(path)):  # a closed one and a new one are refused, too
            try:
                anyio.run(own.load, "k")
            except StorageError as exc:
                sys.stdout.write(f"{type(exc).__name__}\n")
            anyio.run(own.aclose)
        sys.stdout.flush()
        os._exit(0)
    code = os.waitpid(child, 0)[1]
    stored = anyio.run(storage.load, "k")
    sys.stdout.write(f"{stored.data.decode() if isinstance(stored, Stored) else stored} {code}\n")


if __name__ == "__main__":
    if sys.argv[1] == "open":
        anyio.run(SQLiteStorage(sys.argv[2]).open)
    elif sys.argv[1] == "fork":
        fork(sys.argv[2])
    else:
        anyio.run({"write": write, "move": move}[sys.argv[1]], sys.argv[2])
