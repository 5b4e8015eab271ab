"""`onevision batch`: a file of requests -> a file of answers; resumes if interrupted."""

from pathlib import Path
from typing import Annotated

import typer

from onevision.cli.options import (
    AdaptersOption,
    DeviceOption,
    DevicesOption,
    DraftOption,
    DtypeOption,
    ModelOption,
    QuantizeOption,
    VerifyOption,
    check_output,
    load_variants,
)
from onevision.errors import InputError
from onevision.extras import imports_of_extra
from onevision.plural import counted


def batch(
    requests: Annotated[Path, typer.Argument(help="Requests in OpenAI's batch format, JSONL.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Answers, JSONL; appended to.")],
    model: ModelOption = "tiny",
    name: Annotated[str | None, typer.Option(help="Name of the model in requests.")] = None,
    at_a_time: Annotated[
        int, typer.Option(help="Requests in flight at a time.", min=1, max=32)
    ] = 8,
    limit: Annotated[list[str] | None, typer.Option(help="name=value, as in serve.")] = None,
    device: DeviceOption = "cpu",
    devices: DevicesOption = 1,
    dtype: DtypeOption = "auto",
    quantize: QuantizeOption = None,
    adapter: AdaptersOption = None,
    draft: DraftOption = None,
    verify: VerifyOption = True,
) -> None:
    """Answer a file of requests in OpenAI's batch format."""
    with imports_of_extra("serve", "batches need: pip install 'onevision[serve]'"):
        from onevision.serve.batch import run_batch
        from onevision.serve.service import Service
        from onevision.serve.settings import Limits, ServerSettings

    if not requests.is_file():
        raise InputError(f"{requests}: no such file; expected requests in OpenAI's batch format")
    check_output(output)
    served_name = name or (Path(model).name if Path(model).exists() else model)
    settings = ServerSettings(name=served_name, limits=Limits.parse(limit or ()))
    base, variants = load_variants(
        model, adapter or [], device=device, dtype=dtype, quantize=quantize, verify=verify,
        devices=devices, draft=draft,
    )  # fmt: skip
    service = Service(base, settings, variants=variants)
    try:
        counts = run_batch(service, requests, output, num_at_a_time=at_a_time)
    finally:
        service.close()
    for name, count in counts.ignored.most_common(20):
        print(f"warning: {name} has no effect here ({counted(count, 'request')})")
    print(f"{counts.answered} answered, {counts.refused} refused, {counts.kept} there already")
