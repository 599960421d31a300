"""sessioncore for aiohttp."""
