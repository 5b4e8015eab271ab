"""Vision tower in a directory of its own -> its tensors under the names they have inside LLaVA."""

from pathlib import Path
from typing import Any

from onevision.checkpoint.files import StoredTensor, find_tensors, read_json
from onevision.checkpoint.kinds import Values
from onevision.config import VisionConfig
from onevision.errors import CheckpointError
from onevision.plural import counted

Tensors = dict[str, StoredTensor]

# Where a tower may be stored within the checkpoint that needs it.
TOWER = "vision_tower"
TOWER_PREFIX = "model.vision_tower.vision_tower.vision_model."
# Prefixes of a tower's tensors in a directory of its own.
TOWER_ALONE = ("vision_model.", "vision_tower.vision_model.", "")
PARTS = ("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.")
BLOCKS = "encoder.layers."
# Names of towers by which the reference recognises CLIP.
CLIP_LARGE = {
    336: "openai/clip-vit-large-patch14-336",
    224: "openai/clip-vit-large-patch14",
}
# Width and blocks of SigLIP-so400m once its last block is removed.
CUT_SIGLIP = (1152, 26)


def find_tower(directory: Path, values: Values) -> Path:
    """Returns the directory of the tower that a checkpoint lacks. Raises CheckpointError."""
    stated = values.get("mm_vision_tower") or values.get("mm_vision_tower_name")
    for place in (directory / TOWER, directory / str(stated), Path(str(stated))):
        if stated and place.is_dir():
            return place
    raise CheckpointError(
        f"{directory / 'config.json'}: mm_vision_tower is {stated!r}, whose weights are neither in "
        f"the checkpoint nor in a directory of that name; fetch it, then put it at "
        f"{directory / TOWER} or `onevision convert {directory} DST --layout onevision "
        "--vision-tower DIR`"
    )


def read_tower(directory: Path) -> tuple[Tensors, dict[str, Any]]:  # Any: foreign JSON
    """Returns a tower's tensors and its `vision_config`. Raises CheckpointError.

    FIDELITY: the reference removes the last block of every SigLIP that it loads: 26 of 27 run.
    """
    tensors = _tower_tensors(directory)
    described = read_json(directory / "config.json")
    described = described.get("vision_config", described)
    if not isinstance(described, dict):
        raise CheckpointError(
            f"{directory / 'config.json'}: vision_config is {described!r}; expected an object"
        )
    if "embeddings.class_embedding" in tensors:
        return _add_prefix(tensors), described
    num_blocks = _num_blocks(tensors)
    if described.get("num_hidden_layers") not in (None, num_blocks):
        raise CheckpointError(
            f"{directory / 'config.json'}: num_hidden_layers is "
            f"{described['num_hidden_layers']!r}, the tensors hold {counted(num_blocks, 'block')}; "
            "fetch it again"
        )
    width = tensors["embeddings.patch_embedding.weight"].shape[0]
    if (width, num_blocks) != CUT_SIGLIP:
        num_blocks -= 1
    last = f"{BLOCKS}{num_blocks}."
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(last)}
    return _add_prefix(kept), described | {"num_hidden_layers": num_blocks}


def _tower_tensors(directory: Path) -> Tensors:
    """Returns the tensors that belong to a tower, without a prefix."""
    tensors = find_tensors(directory)
    for prefix in TOWER_ALONE:
        if f"{prefix}embeddings.patch_embedding.weight" in tensors:
            return {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix) and name.removeprefix(prefix).startswith(PARTS)
            }
    raise CheckpointError(
        f"{directory}: no vision tower in it (for instance {min(tensors, default='nothing')}); "
        "give a released CLIP or SigLIP checkpoint"
    )


def _num_blocks(tensors: Tensors) -> int:
    names = (name for name in tensors if name.startswith(BLOCKS))
    return len({name.removeprefix(BLOCKS).partition(".")[0] for name in names})


def _add_prefix(tensors: Tensors) -> Tensors:
    return {TOWER_PREFIX + name: tensor for name, tensor in tensors.items()}


def tower_name(vision: VisionConfig) -> str:
    """Returns a name for the tower by which the reference recognises CLIP or SigLIP."""
    if vision == VisionConfig():
        return "google/siglip-so400m-patch14-384"
    if vision.class_token:
        own = f"openai/clip-{vision.hidden_size}-patch{vision.patch_size}-{vision.image_size}"
        return CLIP_LARGE.get(vision.image_size, own) if vision.hidden_size == 1024 else own
    return f"siglip-{vision.hidden_size}-patch{vision.patch_size}-{vision.image_size}"
