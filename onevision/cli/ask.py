"""`onevision ask`: ask one question about images and videos."""

import json
from collections.abc import Iterable
from typing import Annotated

import typer

from onevision.cli.drawing import DrawOption, check_drawing, draw_answer
from onevision.cli.media import AllowUrlsOption, read_parts
from onevision.cli.options import (
    AdapterOption,
    DeviceOption,
    DevicesOption,
    DraftOption,
    DtypeOption,
    JsonOption,
    KeepOption,
    KvInt8Option,
    MaxNewTokensOption,
    ModelOption,
    QuantizeOption,
    SamplerOption,
    SeedOption,
    TemperatureOption,
    VerifyOption,
    load_model,
    refuse_options,
    usage_json,
)
from onevision.conversation import Conversation, Message, Reply


def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="The question.")],
    image: Annotated[
        list[str] | None,
        typer.Option("--image", "-i", help="An image; repeatable. - is standard input."),
    ] = None,
    video: Annotated[
        list[str] | None,
        typer.Option("--video", "-v", help="A video; repeatable. - is standard input."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    num_frames: Annotated[int, typer.Option(help="Maximum frames per video.")] = 32,
    sampler: SamplerOption = "even",
    keep: KeepOption = None,
    allow_urls: AllowUrlsOption = False,
    model: ModelOption = "tiny",
    max_new_tokens: MaxNewTokensOption = 512,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = None,
    device: DeviceOption = "cpu",
    devices: DevicesOption = 1,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdapterOption = None,
    draft: DraftOption = None,
    kv_int8: KvInt8Option = False,
    verify: VerifyOption = True,
    draw: DrawOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask one question about any number of images and videos."""
    if not video:
        refuse_options(context, {"num_frames", "sampler"}, use="a question without --video")
    if temperature == 0:
        refuse_options(context, {"seed"}, use="a greedy answer (--temperature 0)")
    parts = read_parts(
        question, images=image or [], videos=video or [], num_frames=num_frames, sampler=sampler,
        allow_urls=allow_urls,
    )  # fmt: skip
    check_drawing(parts, draw)
    messages = [Message("system", system)] if system else []
    conversation = Conversation([*messages, Message("user", parts)]).with_keep(keep)
    loaded = load_model(
        model, device=device, dtype=dtype, quantize=quantize, adapter=adapter, verify=verify,
        devices=devices, draft=draft, kv_int8=kv_int8,
    )  # fmt: skip
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    if as_json:
        text = _print_json(loaded.ask(conversation, **options))
    else:
        text = _print_pieces(loaded.stream(conversation, **options))
    draw_answer(parts, text, loaded.config.inputs.template, draw, quiet=as_json)


def _print_json(reply: Reply) -> str:
    """Prints a reply as JSON; returns its text."""
    values = {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "usage": usage_json(reply.usage),
        "arithmetic": reply.arithmetic,
    }
    print(json.dumps(values, ensure_ascii=False))
    return reply.text


def _print_pieces(pieces: Iterable[str]) -> str:
    """Prints an answer as it arrives; returns it whole."""
    text = ""
    for piece in pieces:
        print(piece, end="", flush=True)
        text += piece
    print()
    return text
