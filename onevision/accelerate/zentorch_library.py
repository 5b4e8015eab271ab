"""zentorch, a library of kernels for x86 processors: whether it is of use here, and loading it."""

from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from onevision.accelerate.processor import has_amx, has_avx512_vnni


@cache
def find_zentorch_obstacle() -> str | None:
    """Says why zentorch is not used: it is built for one version of torch, and does without AMX.

    Without VNNI its product is an illegal instruction, which no test outlives.
    """
    try:
        found = version("zentorch")
    except PackageNotFoundError:
        return "not installed (pip install 'onevision[fast]')"
    made_for, expected = ".".join(found.split(".")[:3]), torch.__version__.split("+")[0]
    if made_for != expected:
        return f"{found} is built for torch {made_for}, not {expected}"
    if not has_avx512_vnni():
        return "needs AVX-512 VNNI, which this processor lacks"
    if has_amx():
        return "slower than oneDNN on a processor with AMX"
    try:
        _load()
    except (ImportError, OSError) as error:
        return f"{found} cannot be imported: {error}"
    return None


def _load() -> None:
    """Loads the library of kernels. Raises ImportError, OSError.

    Not the package around it, which imports torch's compiler: that takes as long as torch itself.
    """
    spec = find_spec("zentorch")
    if spec is None or spec.origin is None:
        raise ImportError("no module zentorch")
    library = Path(spec.origin).parent / "libzentorch.so"
    if library.exists():
        torch.ops.load_library(library)
    else:
        import_module("zentorch")
