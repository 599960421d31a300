"""sessioncore for aiohttp's web applications."""

try:
    from sessioncore_aiohttp._middleware import get_session, session_middleware, setup
except ModuleNotFoundError as exc:
    if exc.name != "aiohttp":
        raise
    raise ModuleNotFoundError(
        "sessioncore_aiohttp needs aiohttp: pip install 'sessioncore[aiohttp]'", name=exc.name
    ) from exc

__all__ = ["get_session", "session_middleware", "setup"]
