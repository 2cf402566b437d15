"""Steps take as long as SHOP_PAUSE_SECONDS says, so that one can see them move."""

from __future__ import annotations

import asyncio
import os


async def pause() -> None:
    """Rest; not at all unless SHOP_PAUSE_SECONDS is set."""
    await asyncio.sleep(float(os.environ.get("SHOP_PAUSE_SECONDS") or 0))
