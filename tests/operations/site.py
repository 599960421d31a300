"""What both sites share: their store, and how they tell the test what is on its way."""

import os
from datetime import timedelta
from pathlib import Path

import anyio

from sessioncore import SessionConfig, SessionStore, storage_from_url

__all__ = ["FOLDER", "go", "store"]

FOLDER = Path(os.environ["SITE_FOLDER"])
store = SessionStore(
    SessionConfig.development(
        storage=storage_from_url(os.environ["SESSIONCORE_STORAGE"]), storage_timeout=timedelta(seconds=2)
    )
)


async def go(name: str) -> None:
    """Tell the test that this request is on its way, and wait until it may go on."""
    (FOLDER / name).touch()
    while not (FOLDER / "go").exists():  # noqa: ASYNC110 - the test is another process
        await anyio.sleep(0.005)
