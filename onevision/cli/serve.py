"""`onevision serve`: the OpenAI API and a page, on this machine unless told otherwise."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.options import DeviceOption, DtypeOption, ModelOption, QuantizeOption, load_model
from onevision.errors import InputError

KEY_VARIABLE = "ONEVISION_API_KEY"
# oneDNN, and torch above it, keep a compiled product for each shape they have met: 1,024 of them,
# by megabytes, and prompts have as many shapes as lengths. Both read these when torch is loaded.
KERNELS_KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}


def serve(
    model: ModelOption = "tiny",
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    name: Annotated[str | None, typer.Option(help="What clients call the model.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help=f"Keys, one a line; ${KEY_VARIABLE} is another way.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without a key.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="A further name of this server.")
    ] = None,
    allowed_origin: Annotated[
        list[str] | None, typer.Option(help="An origin whose pages may ask.")
    ] = None,
    media_host: Annotated[
        list[str] | None, typer.Option(help="A host whose https addresses are fetched.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="name=value; /v1/models lists all.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse unknown fields.")] = False,
    temperature: Annotated[
        float, typer.Option(help="Where a request gives none.", min=0, max=2)
    ] = 0.0,
    drain_seconds: Annotated[float, typer.Option(help="To finish answers at the end.")] = 30.0,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
) -> None:
    """Serve a model with OpenAI's API, and a page to try it."""
    for variable, number in KERNELS_KEPT.items():
        os.environ.setdefault(variable, number)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        from onevision.serve.run import serve as run
        from onevision.serve.service import Service
        from onevision.serve.settings import Limits, ServerSettings
    except ImportError as error:
        raise InputError("the server needs: pip install 'onevision[serve]'") from error

    settings = ServerSettings(
        name=name or (Path(model).name if Path(model).exists() else model),
        host=host,
        port=port,
        keys=_keys(api_key_file),
        insecure=insecure,
        allowed_hosts=tuple(allowed_host or ()),
        allowed_origins=tuple(allowed_origin or ()),
        media_hosts=tuple(media_host or ()),
        strict=strict,
        temperature=temperature,
        drain_seconds=drain_seconds,
        limits=Limits.parse(limit or ()),
    )
    # Whoever puts other files there while it runs does not change its answers.
    loaded = load_model(model, device=device, dtype=dtype, quantize=quantize, in_memory=True)
    run(Service(loaded, settings))


def _keys(path: Path | None) -> tuple[str, ...]:
    """Return the keys; the variable is removed, so that no other process inherits it."""
    given = os.environ.pop(KEY_VARIABLE, "")
    if path is not None:
        try:
            given += "\n" + path.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: the key file cannot be read ({error.strerror})") from error
    keys = tuple(line.strip() for line in given.splitlines() if line.strip())
    if path is not None and not keys:
        raise InputError(f"{path}: no key in the file; expected one a line")
    return keys
