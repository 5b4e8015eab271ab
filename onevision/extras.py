"""A missing module of an optional extra -> one line that says how to install it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal

from onevision.errors import InputError, OneVisionError

Extra = Literal[
    "constrain", "data", "nf4", "plots", "ray", "serve", "small", "tensorboard", "wandb"
]
# The modules that an extra installs, as far as this package imports them.
MODULES: dict[Extra, frozenset[str]] = {
    "constrain": frozenset({"llguidance"}),
    "data": frozenset({"pyarrow"}),
    "nf4": frozenset({"bitsandbytes"}),
    "plots": frozenset({"matplotlib"}),
    "ray": frozenset({"ray", "pandas"}),
    "serve": frozenset({"fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn"}),
    "small": frozenset({"gguf"}),
    "tensorboard": frozenset({"tensorboard"}),
    "wandb": frozenset({"wandb"}),
}


def has_package(extra: Extra) -> bool:
    """Whether the modules of an extra are installed; none is imported."""
    return all(find_spec(name) is not None for name in MODULES[extra])


@contextmanager
def imports_of_extra(
    extra: Extra, message: str, *, error: type[OneVisionError] = InputError
) -> Iterator[None]:
    """Raises `error` with `message` where an import misses a module of the extra.

    Any other import that fails is a bug, which no installation mends; it is raised as it is.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name in MODULES[extra]:
            raise error(message) from missing
        raise
