"""Processes that read through a near cache, and write: each line `URL LOG MAX_STALE NUMBER OF FAULT` starts one.

The records are counters that every process increases by compare-and-set; the first number in a
record is different in each life of its key. Each process ends, and creates again, the keys whose
number leaves the remainder NUMBER when divided by OF. It logs what it reads, and each write that has
returned. `kill PID` kills one; when standard input ends, the others end. All are forks, because the
imports would take longer than the rest. Half of them run on uvloop.
"""

import asyncio
import os
import random
import signal
import struct
import sys
import traceback
from contextlib import suppress
from datetime import timedelta
from time import monotonic, monotonic_ns
from typing import Any

import uvloop

from sessioncore import StorageUnavailable
from sessioncore.storage import LATER, Load, Stored
from sessioncore.storage.redis import NearCache, RedisStorage
from sessioncore.storage.redis.near._cache import RecordCache

KEYS = [f"counter:{number}" for number in range(120)]
ENTRY = struct.Struct("<BBddQQ")  # what, which key, began, returned, the life, the count
READ, HIT, WRITTEN, ENDED = range(4)  # a hit is a read that was answered without waiting
RECORD = struct.Struct("<QQ")
WRITERS = 8


end_fill, lookup = RecordCache.end_fill, RecordCache.lookup


def keep_overtaken(self: RecordCache, key: str, _: object, stored: Stored | None, sent: float) -> None:
    end_fill(self, key, self.begin_fill(key), stored, sent)


def believe(self: RecordCache, key: str, now: float, _: float) -> Stored | None:
    return lookup(self, key, now, -2.0)


# What to put into RecordCache so that it returns records that it must not return.
FAULTS: dict[str, tuple[str, Any]] = {"marker": ("end_fill", keep_overtaken), "proof": ("lookup", believe)}


class Worker:
    def __init__(self, url: str, log: str, max_stale: float, number: int, of: int) -> None:
        cache = NearCache(max_stale=timedelta(seconds=max_stale))
        self.storage = RedisStorage.from_url(url, timeout=timedelta(seconds=0.8), near_cache=cache)
        self.number, self.of = number, of
        self.ending = asyncio.Lock()
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.reads: list[bytes] = []

    def note(self, what: int, key: int, began: float, record: tuple[int, int]) -> None:
        entry = ENTRY.pack(what, key, began, monotonic(), *record)
        if what in {WRITTEN, ENDED}:
            os.write(self.log, entry)  # immediately, so that the writes of a killed process are in the log
            return
        self.reads.append(entry)
        if len(self.reads) >= 500:
            self.flush()

    def flush(self) -> None:
        os.write(self.log, b"".join(self.reads))
        self.reads.clear()

    async def read(self, key: int) -> Stored | None:
        """Load as a store does."""
        began, call = monotonic(), Load(KEYS[key])
        answer_now: Any = self.storage.answer_now
        reply = answer_now(call)
        waited = reply is LATER
        if waited:
            reply = await self.storage.load(KEYS[key])
        if not isinstance(reply, Stored):
            return None
        self.note(READ if waited else HIT, key, began, RECORD.unpack(reply.data))
        return reply

    async def increase(self, key: int) -> None:
        stored = await self.read(key)
        if stored is not None:
            life, count = RECORD.unpack(stored.data)
            began = monotonic()
            data = RECORD.pack(life, count + 1)
            if isinstance(await self.storage.replace(KEYS[key], data, 60.0, version=stored.version), int):
                self.note(WRITTEN, key, began, (life, count + 1))

    async def renew(self, key: int) -> None:
        await self.storage.touch(KEYS[key], 60.0)

    async def end(self, key: int) -> None:
        """End the record of a key that only this process ends, and create it again."""
        key -= key % self.of - self.number
        async with self.ending:
            began = monotonic()
            await self.storage.delete(KEYS[key])
            self.note(ENDED, key, began, (0, 0))
            await self.begin(key)

    async def begin(self, key: int) -> None:
        """Create the record of a key that only this process creates, if it is missing."""
        began, life = monotonic(), monotonic_ns()
        if await self.storage.create(KEYS[key], RECORD.pack(life, 0), 60.0) is not None:
            self.note(WRITTEN, key, began, (life, 0))

    async def look(self, key: int) -> None:
        """Read one key, in bursts; a missing record proves nothing, so the process of the key creates it."""
        while True:
            with suppress(StorageUnavailable):
                for _ in range(random.randrange(20)):
                    if await self.read(key) is None and key % self.of == self.number:
                        async with self.ending:
                            await self.begin(key)
            await asyncio.sleep(random.random() * 0.36)

    async def change(self) -> None:
        """Change keys at random."""
        while True:
            with suppress(StorageUnavailable):
                doing = random.choices([self.increase, self.renew, self.end], [20, 2, 1])[0]
                await doing(random.randrange(len(KEYS)))
            await asyncio.sleep(random.random() * 0.06)


async def main(url: str, log: str, max_stale: str, number: str, of: str, fault: str) -> None:
    if fault != "none":
        setattr(RecordCache, *FAULTS[fault])
    worker = Worker(url, log, float(max_stale), int(number), int(of))
    work = [*map(worker.look, range(len(KEYS))), *(worker.change() for _ in range(WRITERS))]
    tasks = [asyncio.create_task(one) for one in work]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await asyncio.wait([asyncio.create_task(ended.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.wait(tasks)
    worker.flush()
    await worker.storage.aclose()


def fork(arguments: list[str]) -> int:
    """Start a process, and return its id."""
    if child := os.fork():
        return child
    try:
        run = uvloop.run if int(arguments[3]) % 4 in {1, 2} else asyncio.run
        run(main(*arguments))
    except BaseException:  # noqa: BLE001 - it is printed, and the child must not run its parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def serve() -> None:
    """Do what the lines of standard input say, and fail as soon as a process ends by itself."""
    running: set[int] = set()

    def look(*_: object) -> None:
        if any(os.waitpid(pid, os.WNOHANG)[0] for pid in running):
            sys.exit("a process has ended")

    signal.signal(signal.SIGCHLD, look)
    try:
        for line in sys.stdin:
            if line.startswith("kill"):
                running.remove(pid := int(line.split()[1]))
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            else:
                running.add(pid := fork(line.split()))
            print(pid, flush=True)
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for pid in running:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    sys.exit(any(os.waitpid(pid, 0)[1] for pid in running))


if __name__ == "__main__":
    serve()
