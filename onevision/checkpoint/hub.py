"""A model's name -> its directory: bundled, on disk, or on the Hugging Face hub."""

import re
from pathlib import Path

from onevision.checkpoint.adapter_config import ADAPTER_CONFIG
from onevision.errors import ModelNotFoundError
from onevision.known_models import HUB_IDS
from onevision.values import name_closest

BUNDLED = {"tiny": Path(__file__).parents[1] / "assets" / "tiny"}
# The only files of a repository that are downloaded; pickled weights never are.
PATTERNS = ("*.json", "*.safetensors", "*.jinja")

HUB_ID = re.compile(r"(?!\.)[\w.-]+/[\w.-]+")
# Where a run of `onevision train` leaves its adapter.
RUN_ADAPTER = "adapter"


def resolve(name: str | Path) -> Path:
    """Returns the checkpoint directory of a model. Raises ModelNotFoundError.

    A bare name is looked up in the package alone; only `owner/name` asks the hub.
    """
    text = str(name)
    if text in BUNDLED:
        return BUNDLED[text]
    path = Path(text).expanduser()
    if path.is_dir():
        return path
    if HUB_ID.fullmatch(text):
        return download(text)
    if text in HUB_IDS:
        raise ModelNotFoundError(
            f"{text!r} is an architecture, its weights are not bundled; use {HUB_IDS[text]!r}"
        )
    hint = name_closest(text, (*BUNDLED, *HUB_IDS), few=False)
    raise ModelNotFoundError(
        f"no model {text!r}: neither bundled ({', '.join(BUNDLED)}), nor a directory, "
        f"nor a hub id (owner/name){hint}"
    )


def resolve_adapter(name: str | Path) -> Path:
    """Returns the directory of an adapter: on disk, of a run that trained one, or on the hub.

    Raises ModelNotFoundError.
    """
    path = Path(name).expanduser()
    place = find_adapter(path)
    if place is None and not path.exists() and HUB_ID.fullmatch(str(name)):
        path = download(str(name))
        place = find_adapter(path)
    if place is None:
        found = "holds none" if path.exists() else "there is no such directory"
        raise ModelNotFoundError(
            f"adapter {name}: {found}; expected a directory with {ADAPTER_CONFIG}, as PEFT and "
            "`onevision train` write it, or a hub id (owner/name)"
        )
    return place


def find_adapter(directory: str | Path) -> Path | None:
    """Returns the directory of an adapter, or of the run that trained it; None if there is none."""
    path = Path(directory).expanduser()
    places = (path, path / RUN_ADAPTER)
    return next((place for place in places if (place / ADAPTER_CONFIG).is_file()), None)


def download(repo_id: str) -> Path:
    """Returns the directory of a repository, downloaded unless the cache has all of it.

    Raises ModelNotFoundError.
    """
    if not HUB_ID.fullmatch(repo_id):
        raise ModelNotFoundError(f"{repo_id!r} is no hub id; expected owner/name")
    # Only what comes from the hub waits for its client and that client's web library.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo_id, allow_patterns=list(PATTERNS)))
    except LocalEntryNotFoundError as error:
        raise ModelNotFoundError(
            f"{repo_id}: no such directory, and the hub cannot be reached; "
            "check the connection, or give a directory"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise ModelNotFoundError(f"{repo_id}: not available from the hub ({first_line})") from error
