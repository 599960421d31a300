"""sessioncore for aiohttp web applications."""

from sessioncore.integration import needs_extra

with needs_extra("aiohttp"):
    from sessioncore_aiohttp._middleware import get_session, session_middleware, setup

__all__ = ["get_session", "session_middleware", "setup"]
