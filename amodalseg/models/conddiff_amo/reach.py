"""Whether published weights can be had at all, told at once: the hub's own client tries for most of a minute."""

from __future__ import annotations

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session

FILES = ("model.safetensors", "pytorch_model.bin")
TIMEOUT = 10
"""Seconds that the hub has for its first response."""


def why_out_of_reach(repository: str) -> str | None:
    """Why the weights of ``owner/name`` are neither in the Hugging Face cache nor to be fetched; None if they are."""
    if any(isinstance(try_to_load_from_cache(repository, name), str) for name in FILES):
        return None
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # of requests or of httpx, as the hub's client has it: they have no common base but this
        return type(error).__name__
    return None
