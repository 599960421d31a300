"""Tasks, locks and event loops: what asyncio, trio and anyio do not offer in the same way."""
