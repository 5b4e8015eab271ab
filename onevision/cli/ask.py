"""`onevision ask`: ask one question about images and videos."""

import json
from typing import Annotated

import typer

from onevision.cli.media import AllowUrlsOption, read_parts
from onevision.cli.options import (
    AdapterOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MaxNewTokensOption,
    ModelOption,
    QuantizeOption,
    SeedOption,
    TemperatureOption,
    VerifyOption,
    load_model,
    usage_json,
)
from onevision.conversation import Conversation, Message


def ask(
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
    allow_urls: AllowUrlsOption = False,
    model: ModelOption = "tiny",
    max_new_tokens: MaxNewTokensOption = 512,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdapterOption = None,
    verify: VerifyOption = True,
    as_json: JsonOption = False,
) -> None:
    """Ask one question about any number of images and videos."""
    parts = read_parts(
        question,
        images=image or [],
        videos=video or [],
        num_frames=num_frames,
        allow_urls=allow_urls,
    )
    messages = [Message("system", system)] if system else []
    conversation = Conversation([*messages, Message("user", parts)])
    loaded = load_model(
        model, device=device, dtype=dtype, quantize=quantize, adapter=adapter, verify=verify
    )
    options = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    if as_json:
        reply = loaded.ask(conversation, **options)
        values = {
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "usage": usage_json(reply.usage),
        }
        print(json.dumps(values, ensure_ascii=False))
        return
    for piece in loaded.stream(conversation, **options):
        print(piece, end="", flush=True)
    print()
