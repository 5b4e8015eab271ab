"""`onevision pull`, `list` and `remove`: weights from the hub in the cache on this machine."""

from typing import Annotated

import typer

from onevision.errors import InputError

IdsArgument = Annotated[list[str], typer.Argument(help="Hub ids (owner/name).")]


def pull(ids: IdsArgument) -> None:
    """Download models or adapters from the hub, so that later commands find them."""
    from onevision.checkpoint.hub import download

    for repo_id in ids:
        print(f"{repo_id}: {download(repo_id)}")


def list_models() -> None:
    """List the models and adapters of the hub's cache: size, kind, last use."""
    from onevision.checkpoint.hub import BUNDLED
    from onevision.checkpoint.hub_cache import cache_directory, list_cached

    cached = list_cached()
    for name in BUNDLED:
        print(f"{name:<50} {'bundled':>10}")
    for one in cached:
        print(f"{one.repo_id:<50} {one.num_bytes / 1e9:>7.2f} GB  {one.kind:<8} {one.last_used}")
    total = sum(one.num_bytes for one in cached) / 1e9
    print(f"{len(cached)} in {cache_directory()}, {total:.2f} GB; `onevision pull ID` adds one")


def remove(
    ids: IdsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove models or adapters from the hub's cache, which other programs may use too."""
    from onevision.checkpoint.hub_cache import find_cached, remove_cached

    found = [find_cached(repo_id) for repo_id in ids]
    for one in found:
        question = f"remove {one.repo_id} ({one.num_bytes / 1e9:.2f} GB, {one.directory})?"
        if not yes and not _agrees(question):
            print(f"{one.repo_id}: kept")
            continue
        remove_cached(one)
        print(f"{one.repo_id}: removed, {one.num_bytes / 1e9:.2f} GB are free")


def _agrees(question: str) -> bool:
    try:
        return typer.confirm(question)
    except typer.Abort as error:
        raise InputError(f"{question} there was no answer; give --yes to remove it") from error
