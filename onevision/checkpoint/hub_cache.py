"""The Hugging Face hub's cache on this machine -> the models and adapters in it; without one, none.

Opens no connection. The cache is shared with other programs.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from huggingface_hub.utils import CachedRepoInfo

from onevision.checkpoint.adapter_config import ADAPTER_CONFIG
from onevision.errors import ModelNotFoundError


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """A repository in the cache."""

    repo_id: str
    directory: Path
    num_bytes: int
    kind: str  # "model", "adapter" or "other"
    last_used: str  # as people say it: "2 days ago"


def cache_directory() -> Path:
    """Returns where the hub's client keeps what it downloads."""
    return Path(constants.HF_HUB_CACHE)


def list_cached() -> list[CachedModel]:
    """Returns the models of the cache, by name."""
    try:
        repos = scan_cache_dir(cache_directory()).repos
    except CacheNotFound:
        return []
    models = [_describe(repo) for repo in repos if repo.repo_type == "model"]
    return sorted(models, key=lambda one: one.repo_id)


def find_cached(repo_id: str) -> CachedModel:
    """Returns a model of the cache. Raises ModelNotFoundError."""
    cached = list_cached()
    for one in cached:
        if one.repo_id == repo_id:
            return one
    names = ", ".join(one.repo_id for one in cached[:8]) or "nothing"
    raise ModelNotFoundError(f"{repo_id}: not in {cache_directory()}, which holds {names}")


def remove_cached(model: CachedModel) -> None:
    """Deletes all revisions of a model. Raises OSError."""
    shutil.rmtree(model.directory)


def _describe(repo: CachedRepoInfo) -> CachedModel:
    names = {file.file_name for revision in repo.revisions for file in revision.files}
    weights = any(name.endswith(".safetensors") for name in names)
    if ADAPTER_CONFIG in names:
        kind = "adapter"
    else:
        kind = "model" if weights and "config.json" in names else "other"
    return CachedModel(
        repo_id=repo.repo_id,
        directory=repo.repo_path,
        num_bytes=repo.size_on_disk,
        kind=kind,
        last_used=repo.last_accessed_str,
    )
