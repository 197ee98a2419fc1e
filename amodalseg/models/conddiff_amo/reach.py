"""A quick check whether published weights can be fetched: the hub's own client retries for most of a minute."""

from __future__ import annotations

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.utils import get_session

FILES = ("model.safetensors", "pytorch_model.bin")
TIMEOUT = 10
"""Seconds to wait for the hub's first response."""


def why_out_of_reach(repository: str) -> str | None:
    """Why the weights of ``owner/name`` are neither in the Hugging Face cache nor can be fetched; None if they are."""
    if any(isinstance(try_to_load_from_cache(repository, name), str) for name in FILES):
        return None
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # from requests or httpx, depending on the hub's client; their only common base class
        return type(error).__name__
    return None
