"""The text of a tokenizer.json -> None, or what is wrong with it, found in a process of its own.

The parser is native code: a hostile or damaged file can abort the process that reads it, which no
`except` catches, or take memory without bound. A text is tried once per process; that costs the
start of a Python and one more parse. The tokenizer of this package is not tried.
"""

import hashlib
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from onevision.errors import CheckpointError

OWN = Path(__file__).parents[1] / "assets" / "tiny" / "tokenizer.json"
SECONDS, MEMORY_BYTES = 60, 4 << 30
# Runs without this package: parses, encodes and decodes.
TRIAL = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_str(sys.stdin.buffer.read().decode())
tokenizer.no_truncation()
tokenizer.no_padding()
for text in ("Hello, world! 12", " \\n", "\\u4f60\\u597d \\u00e9"):
    tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids)
"""
_passed = set[bytes]()


def try_tokenizer(definition: str, *, name: str) -> None:
    """Raises CheckpointError if a text ends the process that parses it, or cannot be used."""
    digest = hashlib.sha256(definition.encode(errors="surrogatepass")).digest()
    if digest in _passed or digest == _own_digest():
        return
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", TRIAL],
            input=definition.encode(errors="surrogatepass"),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"{name}: not parsed within {SECONDS} s; use the tokenizer.json of the base model"
        ) from error
    if done.returncode < 0:
        reason = "it ends the process that parses it"
    elif done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        reason = lines[-1].split(": ", 1)[-1][:120]
    else:
        _passed.add(digest)
        return
    raise CheckpointError(f"{name}: not a tokenizer definition ({reason})")


@lru_cache(maxsize=1)
def _own_digest() -> bytes:
    return hashlib.sha256(OWN.read_bytes()).digest()
