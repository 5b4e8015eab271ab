"""Acts that take time, beside the event loop: their value, or their error in the wire's words."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from onevision.errors import OneVisionError
from onevision.serve.schema.problems import problem_of

Value = TypeVar("Value")


async def in_thread(
    act: Callable[[], Value], *, threads: ThreadPoolExecutor | None = None
) -> Value:
    """Run `act` in one of `threads`, or of asyncio's own. Raises ApiError for what goes wrong."""
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, act)
    except OneVisionError as error:
        raise problem_of(error) from error
