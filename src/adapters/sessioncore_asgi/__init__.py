"""sessioncore for ASGI: Starlette, FastAPI, Quart and every other ASGI application."""

from sessioncore_asgi._middleware import SessionMiddleware, get_session

__all__ = ["SessionMiddleware", "get_session"]
