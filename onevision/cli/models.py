"""`onevision models`: the known architectures."""

from onevision.anyres import max_image_tokens, plan_video
from onevision.known_models import ARCHITECTURES, HUB_IDS


def models() -> None:
    """List the known models with their sizes and where they come from."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in (
        "model",
        "vision",
        "language",
        "context",
        "tokens per image",
        "32 frames",
        "load",
    ):
        table.add_column(column)
    for name, config in ARCHITECTURES.items():
        vision, language, rules = config.vision, config.language, config.inputs
        table.add_row(
            name,
            f"{vision.num_layers} x {vision.hidden_size}, {vision.image_size} px",
            f"{language.num_layers} x {language.hidden_size}",
            f"{language.max_positions:,}",
            f"up to {max_image_tokens(rules.image):,}",
            f"{plan_video(num_frames=32, rule=rules.video).num_tokens:,}",
            HUB_IDS.get(name, f"{name} (bundled)"),
        )
    Console().print(table)
