"""Our tensor names -> those of every layout in circulation; the tensors are the same."""

from dataclasses import dataclass, replace

from onevision.errors import CheckpointError

# Suffixes are shared by all foreign layouts; pairs are (ours, theirs), tried in this order.
VISION_SUFFIXES = (
    ("begin.token", "embeddings.class_embedding"),
    ("begin.norm.", "pre_layrnorm."),  # the spelling of every CLIP checkpoint
    ("patch_embedding.", "embeddings.patch_embedding."),
    ("position_embedding.", "embeddings.position_embedding."),
    ("post_norm.", "post_layernorm."),
    ("blocks.", "encoder.layers."),
    (".attention_norm.", ".layer_norm1."),
    (".mlp_norm.", ".layer_norm2."),
    (".attention.query.", ".self_attn.q_proj."),
    (".attention.key.", ".self_attn.k_proj."),
    (".attention.value.", ".self_attn.v_proj."),
    (".attention.output.", ".self_attn.out_proj."),
    (".mlp.up.", ".mlp.fc1."),
    (".mlp.down.", ".mlp.fc2."),
)
LANGUAGE_SUFFIXES = (
    ("embedding.", "embed_tokens."),
    ("blocks.", "layers."),
    (".attention_norm.", ".input_layernorm."),
    (".mlp_norm.", ".post_attention_layernorm."),
    (".attention.query.", ".self_attn.q_proj."),
    (".attention.key.", ".self_attn.k_proj."),
    (".attention.value.", ".self_attn.v_proj."),
    (".attention.output.", ".self_attn.o_proj."),
    (".mlp.gate.", ".mlp.gate_proj."),
    (".mlp.up.", ".mlp.up_proj."),
    (".mlp.down.", ".mlp.down_proj."),
)
# Buffers in old checkpoints that are computed instead.
IGNORED_SUFFIXES = (".inv_freq", ".position_ids")


@dataclass(frozen=True, kw_only=True)
class TensorNames:
    """How one layout names its tensors: the prefix of each part."""

    layout: str
    vision: str
    # One for each linear layer, in order.
    projector: tuple[str, ...]
    newline: str
    language: str
    head: str

    def translate(self, ours: str) -> str:
        """Returns the layout's name for one of our tensors."""
        part, _, rest = ours.partition(".")
        if ours == "image_newline":
            return self.newline
        if part == "vision_encoder":
            return self.vision + _replace(rest, VISION_SUFFIXES)
        if part == "projector":
            _, index, kind = rest.split(".")
            return f"{self.projector[int(index)]}.{kind}"
        if rest == "head.weight":
            return self.head
        return self.language + _replace(rest, LANGUAGE_SUFFIXES)


MAX_PROJECTOR_LAYERS = 8
LINEAR = tuple(f"multi_modal_projector.linear_{n}" for n in range(1, MAX_PROJECTOR_LAYERS + 1))
# The reference implementation, from LLaVA v1 to OneVision. Its projector is an nn.Sequential with a
# GELU at every odd index.
LMMS_LAB = TensorNames(
    layout="lmms-lab",
    vision="model.vision_tower.vision_tower.vision_model.",
    projector=tuple(f"model.mm_projector.{2 * n}" for n in range(MAX_PROJECTOR_LAYERS)),
    newline="model.image_newline",
    language="model.",
    head="lm_head.weight",
)
# The same with the projector of LLaVA v1, a single layer.
LMMS_LAB_LINEAR = replace(LMMS_LAB, projector=("model.mm_projector",))
# llava-hf, as converted in 2024 and as transformers 5.x writes what it loaded.
LLAVA_HF = TensorNames(
    layout="llava-hf",
    vision="vision_tower.vision_model.",
    projector=LINEAR,
    newline="image_newline",
    language="language_model.model.",
    head="language_model.lm_head.weight",
)
# Module names in transformers 4.52 to 5.5, and in 5.6 and later.
LLAVA_HF_4_52 = TensorNames(
    layout="llava-hf",
    vision="model.vision_tower.vision_model.",
    projector=tuple(f"model.{name}" for name in LINEAR),
    newline="model.image_newline",
    language="model.language_model.",
    head="lm_head.weight",
)
LLAVA_HF_5_6 = replace(LLAVA_HF_4_52, vision="model.vision_tower.")
# As transformers 5.x saves a model that was built from a config.
LLAVA_HF_BUILT = replace(LLAVA_HF, vision="vision_tower.")
FOREIGN = (LMMS_LAB_LINEAR, LMMS_LAB, LLAVA_HF, LLAVA_HF_4_52, LLAVA_HF_5_6, LLAVA_HF_BUILT)
OURS = "onevision"
LAYOUTS = (OURS, "lmms-lab", "llava-hf")
# What a checkpoint of the reference has even if its tower is stored elsewhere.
PROJECTOR_PROBES = ("model.mm_projector.weight", "model.mm_projector.0.weight")
# A tensor of ours that every checkpoint has; its name differs in every layout.
PROBE = "vision_encoder.patch_embedding.weight"


def detect_names(keys: set[str], *, where: str) -> TensorNames | None:
    """Returns the naming that fits these keys; None is our own. Raises CheckpointError."""
    if PROBE in keys:
        return None
    for names in FOREIGN:
        linear = names is LMMS_LAB_LINEAR
        if names.translate(PROBE) in keys and (
            not linear or f"{names.projector[0]}.weight" in keys
        ):
            return names
    raise CheckpointError(
        f"{where}: no layout fits its {len(keys)} tensors (for instance {min(keys, default='-')}); "
        f"expected one of {', '.join(LAYOUTS)}, vision encoder included"
    )


def foreign_name(ours: str, names: TensorNames | None) -> str:
    """Returns the name of one of our tensors in a layout; None is our own."""
    return ours if names is None else names.translate(ours)


def _replace(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in pairs:
        if ours.startswith("."):
            name = name.replace(ours, theirs)
        elif name.startswith(ours):
            name = theirs + name.removeprefix(ours)
    return name
