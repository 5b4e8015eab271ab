"""A model's name -> its directory: bundled, on disk, or on the Hugging Face hub."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from onevision.errors import ModelNotFoundError
from onevision.known_models import HUB_IDS

BUNDLED = {"tiny": Path(__file__).parents[1] / "assets" / "tiny"}
# The only files of a repository that are downloaded; pickled weights never are.
PATTERNS = ("*.json", "*.safetensors", "*.jinja")


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
    if re.fullmatch(r"[\w.-]+/[\w.-]+", text) and not text.startswith("."):
        return _download(text)
    if text in HUB_IDS:
        raise ModelNotFoundError(
            f"{text!r} is an architecture, its weights are not bundled; use {HUB_IDS[text]!r}"
        )
    raise ModelNotFoundError(
        f"no model {text!r}: neither bundled ({', '.join(BUNDLED)}), nor a directory, "
        "nor a hub id (owner/name)"
    )


def _download(repo_id: str) -> Path:
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
