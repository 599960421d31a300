"""A separate process that changes records: `python watching_worker.py URL` reads `HOW KEY` and prints `done`."""

import asyncio
import sys
from typing import cast

from sessioncore.storage import KeepsTombstones, Storage, Stored
from sessioncore.storage._url import storage_from_url


async def change(storage: Storage, how: str, key: str) -> None:
    found = await storage.load(key)
    assert isinstance(found, Stored)
    if how == "replace":
        assert isinstance(await storage.replace(key, b"new", 1000, version=found.version), int)
    elif how == "delete":
        assert await storage.delete(key) == 1
    else:
        mover, at = cast("KeepsTombstones", storage), found.version
        moved = await mover.move(key, f"{key}:moved", b"new", 1000, version=at, tombstone=float(how))
        assert isinstance(moved, int)


async def main(url: str) -> None:
    storage = storage_from_url(url)
    for line in sys.stdin:
        await change(storage, *line.split())
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
