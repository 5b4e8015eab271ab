"""A blocking call -> an awaitable that runs it in a thread, and raises ApiError."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from onevision.errors import OneVisionError
from onevision.serve.schema.problems import problem_of

Value = TypeVar("Value")


async def in_thread(
    call: Callable[[], Value], *, threads: ThreadPoolExecutor | None = None
) -> Value:
    """Runs `call` in one of `threads`, by default asyncio's own. Raises ApiError."""
    try:
        return await asyncio.get_running_loop().run_in_executor(threads, call)
    except OneVisionError as error:
        raise problem_of(error) from error
