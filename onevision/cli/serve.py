"""`onevision serve`: OpenAI's API and a demo page, on loopback by default."""

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.options import (
    AdaptersOption,
    DeviceOption,
    DevicesOption,
    DraftOption,
    DtypeOption,
    KvInt8Option,
    ModelOption,
    QuantizeOption,
    VerifyOption,
    load_variants,
)
from onevision.cli.port import check_port
from onevision.extras import imports_of_extra
from onevision.plural import counted

KEY_VARIABLE = "ONEVISION_API_KEY"
# oneDNN, and torch above it, cache a compiled matrix product for each shape: 1,024 of them by
# default, of megabytes each, and prompts have many lengths. Both read these when torch is imported.
KERNEL_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128", "LRU_CACHE_CAPACITY": "128"}

KeyFileOption = Annotated[
    Path | None, typer.Option(help=f"File of API keys, one per line; or set ${KEY_VARIABLE}.")
]
AdminKeyFileOption = Annotated[
    Path | None, typer.Option(help="File of keys that may read /metrics too.")
]
InsecureOption = Annotated[
    bool, typer.Option("--insecure", help="Accept other machines without a key.")
]
AllowedHostOption = Annotated[
    list[str] | None, typer.Option(help="Another host name of this server.")
]
AllowedOriginOption = Annotated[
    list[str] | None, typer.Option(help="Origin whose pages may use the API.")
]
MediaHostOption = Annotated[
    list[str] | None, typer.Option(help="Host whose https URLs are fetched.")
]
RequireSandboxOption = Annotated[
    bool, typer.Option("--require-sandbox", help="Refuse to start with weaker decoders.")
]
LimitOption = Annotated[list[str] | None, typer.Option(help="name=value; /v1/models lists all.")]


def serve(
    model: ModelOption = "tiny",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 picks a free port.", min=0, max=65535)] = 8000,
    name: Annotated[str | None, typer.Option(help="Name of the model in requests.")] = None,
    api_key_file: KeyFileOption = None,
    admin_key_file: AdminKeyFileOption = None,
    insecure: InsecureOption = False,
    allowed_host: AllowedHostOption = None,
    allowed_origin: AllowedOriginOption = None,
    media_host: MediaHostOption = None,
    limit: LimitOption = None,
    require_sandbox: RequireSandboxOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse unknown fields.")] = False,
    temperature: Annotated[
        float, typer.Option(help="Default for requests without one.", min=0, max=2)
    ] = 0.0,
    drain_seconds: Annotated[float, typer.Option(help="For answers to end at shutdown.")] = 30.0,
    device: DeviceOption = "cpu",
    devices: DevicesOption = 1,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdaptersOption = None,
    draft: DraftOption = None,
    kv_int8: KvInt8Option = False,
    verify: VerifyOption = True,
) -> None:
    """Serve a model with OpenAI's API and a demo page."""
    _prepare_process()
    with imports_of_extra("serve", "the server needs: pip install 'onevision[serve]'"):
        from onevision.serve.keys import KeyRing
        from onevision.serve.run import serve as run
        from onevision.serve.service import Service
        from onevision.serve.settings import Limits, ServerSettings
    settings = ServerSettings(
        name=name or (Path(model).name if Path(model).exists() else model),
        host=host,
        port=port,
        keys=_environment_keys(),
        key_file=api_key_file,
        admin_key_file=admin_key_file,
        insecure=insecure,
        allowed_hosts=tuple(allowed_host or ()),
        allowed_origins=tuple(allowed_origin or ()),
        media_hosts=tuple(media_host or ()),
        require_sandbox=require_sandbox,
        strict=strict,
        temperature=temperature,
        drain_seconds=drain_seconds,
        limits=Limits.parse(limit or ()),
    )
    keys = KeyRing(settings)
    check_port(host, port)
    # In memory, so that replacing the files does not change the answers of a running server.
    base, variants = load_variants(
        model, adapter or [], device=device, dtype=dtype, quantize=quantize, verify=verify,
        in_memory=True, devices=devices, draft=draft, kv_int8=kv_int8,
    )  # fmt: skip
    _log_threads(device)
    run(Service(base, settings, variants=variants, keys=keys))


def _log_threads(device: str) -> None:
    import torch

    if device == "cpu":
        count = counted(torch.get_num_threads(), "thread")
        logging.getLogger("onevision.serve").info("computes with %s", count)


def _prepare_process() -> None:
    for variable, number in KERNEL_CACHES.items():
        os.environ.setdefault(variable, number)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def _environment_keys() -> tuple[str, ...]:
    """Returns the keys of the variable; removes it, so that no child process inherits it."""
    given = os.environ.pop(KEY_VARIABLE, "")
    return tuple(line.strip() for line in given.splitlines() if line.strip())
