"""Tensor names: ours <-> those of every layout in circulation. Renaming is all there is to it."""

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
# Buffers that old checkpoints carry and nobody needs.
IGNORED_SUFFIXES = (".inv_freq", ".position_ids")


@dataclass(frozen=True, kw_only=True)
class Names:
    """The prefixes of one layout."""

    layout: str
    vision: str
    # Of the projector's linear layers, in order.
    projector: tuple[str, ...]
    newline: str
    language: str
    head: str

    def foreign(self, ours: str) -> str:
        """Translate one of our tensor names."""
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
# The reference's own, from LLaVA v1 to OneVision; the projector is an nn.Sequential with a GELU at
# every odd index.
LMMS_LAB = Names(
    layout="lmms-lab",
    vision="model.vision_tower.vision_tower.vision_model.",
    projector=tuple(f"model.mm_projector.{2 * n}" for n in range(MAX_PROJECTOR_LAYERS)),
    newline="model.image_newline",
    language="model.",
    head="lm_head.weight",
)
# The same with LLaVA v1's projector, which is a layer alone.
LMMS_LAB_LINEAR = replace(LMMS_LAB, projector=("model.mm_projector",))
# llava-hf, as converted in 2024 and as transformers 5.x writes what it loaded.
LLAVA_HF = Names(
    layout="llava-hf",
    vision="vision_tower.vision_model.",
    projector=LINEAR,
    newline="image_newline",
    language="language_model.model.",
    head="language_model.lm_head.weight",
)
# In the memory of transformers 4.52 to 5.5, and of 5.6 and later.
LLAVA_HF_4_52 = Names(
    layout="llava-hf",
    vision="model.vision_tower.vision_model.",
    projector=tuple(f"model.{name}" for name in LINEAR),
    newline="model.image_newline",
    language="model.language_model.",
    head="lm_head.weight",
)
LLAVA_HF_5_6 = Names(
    layout="llava-hf",
    vision="model.vision_tower.",
    projector=LLAVA_HF_4_52.projector,
    newline=LLAVA_HF_4_52.newline,
    language=LLAVA_HF_4_52.language,
    head=LLAVA_HF_4_52.head,
)
# What transformers 5.x writes of a model that was built from a config.
LLAVA_HF_BUILT = Names(
    layout="llava-hf",
    vision="vision_tower.",
    projector=LLAVA_HF.projector,
    newline=LLAVA_HF.newline,
    language=LLAVA_HF.language,
    head=LLAVA_HF.head,
)
FOREIGN = (LMMS_LAB_LINEAR, LMMS_LAB, LLAVA_HF, LLAVA_HF_4_52, LLAVA_HF_5_6, LLAVA_HF_BUILT)
OURS = "onevision"
LAYOUTS = (OURS, "lmms-lab", "llava-hf")
# What a checkpoint of the reference has even where its tower lies elsewhere.
PROJECTOR_PROBES = ("model.mm_projector.weight", "model.mm_projector.0.weight")
# One tensor that every checkpoint has, by its own name in every layout.
PROBE = "vision_encoder.patch_embedding.weight"


def detect(keys: set[str], *, where: str) -> Names | None:
    """Return the names a checkpoint's keys follow, None for our own. Raises CheckpointError."""
    if PROBE in keys:
        return None
    for names in FOREIGN:
        linear = names is LMMS_LAB_LINEAR
        if names.foreign(PROBE) in keys and (not linear or f"{names.projector[0]}.weight" in keys):
            return names
    raise CheckpointError(
        f"{where}: no layout fits its {len(keys)} tensors (for instance {min(keys, default='-')}); "
        f"expected one of {', '.join(LAYOUTS)}, vision encoder included"
    )


def rename(ours: str, names: Names | None) -> str:
    """Return the name of our tensor in a layout."""
    return ours if names is None else names.foreign(ours)


def _replace(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for ours, theirs in pairs:
        if ours.startswith("."):
            name = name.replace(ours, theirs)
        elif name.startswith(ours):
            name = theirs + name.removeprefix(ours)
    return name
