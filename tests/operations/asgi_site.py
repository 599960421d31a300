"""The site on Starlette: `app`."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import FrameType

from starlette.applications import Starlette
from tests.adapters.apps_asgi import make_app
from tests.operations.site import PAGES, STOPPING, store, talk


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    """Set STOPPING when the server gets SIGTERM."""
    loop, former = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(STOPPING.set)
        if callable(former):
            former(number, frame)

    signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, former)  # a second SIGTERM may come when the loop is closed


app = make_app(store, pages=PAGES, talk=talk, lifespan=lifespan)
