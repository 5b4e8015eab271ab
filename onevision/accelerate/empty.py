"""Modules without memory: tensors that are made inside `without_memory` have shapes alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

# What layers fill their new tensors by; torch gives the argument `tensor` by its name.
FILLS = {init.constant_, init.kaiming_uniform_, init.normal_, init.uniform_}


@contextmanager
def without_memory() -> Iterator[None]:
    """Puts new tensors on torch's meta device, and fills none of them."""
    with torch.device("meta"), _LeaveUnfilled():
        yield


class _LeaveUnfilled(TorchFunctionMode):
    """Skips `FILLS`.

    There is nothing to fill, and torch would import its compiler to find that out.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],  # Any: whatever torch calls, with whatever it takes
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Returns the tensor that was to be filled, or what `func` returns."""
        kwargs = kwargs or {}
        return kwargs["tensor"] if func in FILLS else func(*args, **kwargs)
