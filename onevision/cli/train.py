"""`onevision train`: one stage of the procedural curriculum."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    stage: Annotated[
        str,
        typer.Argument(
            help="tokenizer, vision, language, align, knowledge, single_image or onevision."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The run's directory.")],
    start: Annotated[
        list[Path] | None, typer.Option("--from", help="A checkpoint to start from; repeatable.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="A tokenizer.json.")] = None,
    num_samples: Annotated[int | None, typer.Option(help="Samples to see.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = 0,
) -> None:
    """Train one stage of `tiny` on procedural data; see runs/tiny.sh for the whole."""
    from dataclasses import replace

    from onevision.errors import InputError
    from onevision.inputs.tokenizer import Tokenizer
    from onevision.known_models import TINY
    from onevision.train.stages import stage_named
    from onevision.train.trainer import train as run
    from onevision.train.vocabulary import corpus, train_tokenizer

    if stage == "tokenizer":
        output.mkdir(parents=True, exist_ok=True)
        definition = train_tokenizer(corpus(2000), vocab_size=TINY.language.vocab_size)
        (output / "tokenizer.json").write_text(definition, encoding="utf-8")
        print(f"wrote {output / 'tokenizer.json'}")
        return
    if tokenizer is None or not tokenizer.is_file():
        raise InputError(
            f"--tokenizer is {tokenizer}; give the tokenizer.json of `train tokenizer`"
        )
    chosen = stage_named(stage)
    if num_samples is not None:
        chosen = replace(chosen, num_samples=num_samples)
    checkpoint = run(
        chosen,
        TINY,
        tokenizer=Tokenizer(tokenizer.read_text(encoding="utf-8"), name=str(tokenizer)),
        starts=start or [],
        output=output,
        seed=seed,
        report=lambda line: print("  ".join(f"{k} {v}" for k, v in line.items()), flush=True),
    )
    print(f"wrote {checkpoint}")
