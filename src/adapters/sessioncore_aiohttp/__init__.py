"""sessioncore for aiohttp's web applications."""

from sessioncore_aiohttp._middleware import get_session, session_middleware, setup

__all__ = ["get_session", "session_middleware", "setup"]
