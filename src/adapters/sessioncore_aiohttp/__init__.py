"""sessioncore for aiohttp web applications."""

try:
    from sessioncore_aiohttp._middleware import get_session, session_middleware, setup
except ModuleNotFoundError as _exc:
    if _exc.name != "aiohttp":
        raise
    raise ModuleNotFoundError(
        "sessioncore_aiohttp needs aiohttp: pip install 'sessioncore[aiohttp]'", name=_exc.name
    ) from _exc

__all__ = ["get_session", "session_middleware", "setup"]
