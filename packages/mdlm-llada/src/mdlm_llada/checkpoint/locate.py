"""Where a checkpoint is: a folder, the local cache of the hub, or the hub."""

from __future__ import annotations

from pathlib import Path

from mdlm_core.data.hub import quiet, require
from mdlm_core.errors import CheckpointError

FILES = (
    "*.json",
    "*.safetensors",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.tiktoken",
)
"""What is fetched: no code, and no weights in other formats."""


def locate(path: Path | str) -> Path:
    """Return the folder of the checkpoint `path`.

    What is in the local cache is used before the network is.

    Args:
        path: a folder, or a name on the Hugging Face hub.

    Raises:
        CheckpointError: if there is no such folder, and it cannot be fetched.
        MissingExtraError: without the extra ``hf``, for a name on the hub.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    name = str(path)
    if folder.exists():
        raise CheckpointError(
            f"'{name}' is a file; name the folder that holds config.json"
        )
    if not _is_hub_name(name):
        raise CheckpointError(
            f"there is no folder '{name}', and the hub has names of the form OWNER/NAME"
        )
    hub = require("huggingface_hub", f"the checkpoint {name}")
    cached = hub.try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str) and _is_whole(Path(cached).parent):
        return Path(cached).parent
    try:
        with quiet():
            return Path(hub.snapshot_download(name, allow_patterns=list(FILES)))
    except (OSError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines()
        reason = lines[0] if lines else type(error).__name__
        raise CheckpointError(
            f"the checkpoint '{name}' is neither a folder, nor whole in the Hugging "
            f"Face cache, nor could it be fetched from the hub: {reason} Check the "
            f"name and the network"
        ) from error


def _is_hub_name(name: str) -> bool:
    """Return whether the hub could have `name`: OWNER/NAME."""
    utils = require("huggingface_hub.utils", f"the checkpoint {name}")
    try:
        utils.validate_repo_id(name)
    except ValueError:
        return False
    return name.count("/") == 1


def _is_whole(folder: Path) -> bool:
    """Return whether a cached folder has all the weights it should have."""
    from .files import missing_files

    return not missing_files(folder)
