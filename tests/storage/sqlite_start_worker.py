"""A process that starts a store on `PATH`, and prints "started", or the error: `PATH [create]`.

Root may write any file, so a process of root becomes another user, unless STAY_ROOT is set.
"""

import logging
import os
import sys

import anyio

from sessioncore import SessionConfig, SessionError, SessionStore, SQLiteStorage

NOBODY = 65534


async def start(path: str, create: bool) -> str:
    if os.geteuid() == 0 and not os.environ.get("STAY_ROOT"):
        os.seteuid(NOBODY)
    logging.basicConfig(stream=sys.stdout, level=logging.ERROR, format="logged: %(message)s")
    try:
        async with SessionStore(SessionConfig(storage=SQLiteStorage(path))) as store:
            if create:
                await store.create({"n": "x" * 60_000})
    except SessionError as error:
        return f"{type(error).__name__}: {error}"
    return "started"


print(anyio.run(start, sys.argv[1], sys.argv[2:] == ["create"]))
