"""`onevision models`: list the known architectures, or say what a checkpoint holds."""

from typing import Annotated

import typer

from onevision.anyres import plan, plan_video
from onevision.config import ConvNetConfig, VisionConfig
from onevision.known_models import ARCHITECTURES, HUB_IDS, LICENCES, max_image_tokens
from onevision.native import Native

# Widths and heights whose tokens are shown for models that read pictures at their own size.
SIZES = ((336, 336), (640, 480), (1920, 1080))


def models(
    model: Annotated[
        str | None, typer.Argument(help="A checkpoint to describe: 'tiny', a directory, a hub id.")
    ] = None,
) -> None:
    """List the known models: sizes, tokens, context, licence of the base model, how to load.

    With a model, say what it holds: layout, sizes, and how its weights are stored.
    """
    if model is not None:
        _describe(model)
        return
    from onevision.checkpoint.hub import BUNDLED

    for name, config in ARCHITECTURES.items():
        vision, language, rules = config.vision, config.language, config.inputs
        video = plan_video(num_frames=32, rule=rules.video).num_tokens
        several = max_image_tokens(rules.multi_image)
        pictures = f"at {vision.image_size} px"
        shown = ""
        if isinstance(rules.image, Native):
            pictures = "at native resolution"
            counts = [plan(width=w, height=h, rule=rules.image).num_tokens for w, h in SIZES]
            sizes = (f"{w} x {h} {count:,}" for (w, h), count in zip(SIZES, counts, strict=True))
            shown = f" ({', '.join(sizes)})"
        home = HUB_IDS.get(name)
        place = (
            f"load({home or name!r})" if home or name in BUNDLED else "no complete weights released"
        )
        print(
            f"{name}\n"
            f"      {_tower(vision)} {vision.num_layers} x {vision.hidden_size} {pictures}, "
            f"language {language.num_layers} x {language.hidden_size}, "
            f"context {language.max_positions:,}, template {rules.template}\n"
            f"      image up to {max_image_tokens(rules.image):,} tokens{shown}, "
            f"several images {several} each, 32 frames {video:,}\n"
            f"      {LICENCES[name]}; {place}"
        )


def _tower(vision: VisionConfig | ConvNetConfig) -> str:
    """Returns what a vision encoder of this kind is called."""
    if isinstance(vision, ConvNetConfig):
        return "EfficientNet-Lite"
    if vision.rotary:
        return "OneVision-Encoder" if vision.rotary_time else "RICE"
    return "CLIP" if vision.class_token else "SigLIP"


def _describe(name: str) -> None:
    from onevision.checkpoint.hub import resolve
    from onevision.checkpoint.load import inspect
    from onevision.checkpoint.quantised_formats import QuantisedTensor

    info = inspect(resolve(name))
    vision, language = info.config.vision, info.config.language
    quantised = [one for one in info.tensors.values() if isinstance(one, QuantisedTensor)]
    stored = ", ".join(sorted({one.dtype for one in info.tensors.values()}))
    if info.scheme is not None:
        stored = f"{info.scheme.describe()}: {len(quantised)} of {len(info.tensors)} tensors"
    size = sum(path.stat().st_size for path in {one.path for one in info.tensors.values()})
    print(
        f"{info.directory}\n"
        f"      layout {info.layout}, vision {vision.num_layers} x {vision.hidden_size}, language "
        f"{language.num_layers} x {language.hidden_size}, context {language.max_positions:,}\n"
        f"      weights {stored}, {size / 2**20:,.1f} MiB"
    )
