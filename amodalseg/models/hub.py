"""Loading models from and uploading them to the Hugging Face hub, or a folder with the same layout."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from amodalseg.atomic import write_whole
from amodalseg.config.load import to_dict
from amodalseg.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Self

WEIGHTS = "model.safetensors"
CARD = """---
{{ card_data }}
---

# {{ name }}

Amodal segmentation: a photo and the visible mask of an object -> its whole mask, hidden part included. Weights
of `{{ kind }}` in the format of `amodalseg`; loading them executes no code.

```python
import amodalseg

model = amodalseg.load_model("hf:{{ repo_id }}")
result = model.predict(image, modal, seed=0)  # uint8 (H, W, 3) RGB and bool (H, W), or a stack (N, H, W)
result.amodal, result.occluded, result.probability
```

`model.safetensors` holds the weights and, in its metadata, the whole configuration; `config.json` is a copy of it to
read.

## About

{{ about }}
"""


class HubModel(
    ModelHubMixin,
    library_name="amodalseg",
    license="apache-2.0",
    pipeline_tag="mask-generation",
    tags=["amodal-segmentation", "amodal-completion", "image-segmentation", "diffusion"],
    model_card_template=CARD,
):
    """Adds ``from_pretrained``, ``save_pretrained`` and ``push_to_hub`` to a model stored in one file."""

    name: str
    config: Any
    about: dict[str, Any]

    @classmethod
    @abstractmethod
    def load(cls, path: Path, name: str | None = None) -> Self:
        """Read a model file."""

    @abstractmethod
    def save(self, path: Path, about: dict[str, Any] | None = None) -> None:
        """Write a model file."""

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
    ) -> Self:
        """Load a model from the hub or from a folder. Reads ``model.safetensors`` alone; nothing in it is executed.

        Args:
            pretrained_model_name_or_path: ``owner/name`` on the hub, or a folder that ``save_pretrained`` wrote.
            revision: branch, tag or commit; default: the main branch.
            token: for private repositories; default: the one of ``hf auth login``.
            cache_dir: folder for downloads.
            force_download: download again even if cached.
            local_files_only: use the cached copy and never contact the hub.

        Raises:
            UserError: there is no such folder, repository or revision, no network, or a file cannot be used.
        """
        name = str(pretrained_model_name_or_path)
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            if not (folder / WEIGHTS).is_file():
                raise UserError(f"the folder {folder} holds no {WEIGHTS}")
            return cls.load(folder / WEIGHTS, name)
        try:
            path = hf_hub_download(
                name, WEIGHTS, revision=revision, token=token, cache_dir=cache_dir, force_download=force_download,
                local_files_only=local_files_only,
            )  # fmt: skip
        except HFValidationError as error:
            raise UserError(f"'{name}' is neither a folder nor a name on the hub (owner/name)") from error
        except LocalEntryNotFoundError as error:
            raise UserError(f"{name} is not in the cache, and the hub cannot be reached to download it") from error
        except (HfHubHTTPError, OSError) as error:
            raise UserError(f"cannot load {name} from the hub: {_first_line(error)}") from error
        return cls.load(Path(path), name)

    def _save_pretrained(self, save_directory: Path) -> None:
        self.save(save_directory / WEIGHTS)
        write_whole(save_directory / "config.json", json.dumps(to_dict(self.config), indent=2) + "\n")

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the files of ``save_pretrained`` to ``owner/name``.

        Args:
            repo_id: ``owner/name``; created if it does not exist.
            options: those of ``huggingface_hub.ModelHubMixin.push_to_hub``: ``private``, ``token``, ``branch``,
                ``commit_message``, ...

        Returns:
            The address of the commit.

        Raises:
            UserError: the hub refuses or cannot be reached.
        """
        card = {"repo_id": repo_id, "name": repo_id.rpartition("/")[2]}
        try:
            return super().push_to_hub(repo_id, **{"model_card_kwargs": card, **options})
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise UserError(f"cannot upload to {repo_id}: {_first_line(error)}") from error

    def generate_model_card(self, *_: Any, **values: Any) -> ModelCard:
        """The README of a repository: how to use the model, and what its file says about it in few words."""
        about = {key: value if isinstance(value, str) else json.dumps(value) for key, value in self.about.items()}
        lines = [f"- {key}: {text}" for key, text in about.items() if len(text) <= 500]  # the rest is in the file
        values = {
            "name": self.name, "kind": self.config.name, "repo_id": "owner/name",
            "about": "\n".join(lines) or "Nothing is noted.", **values,
        }  # fmt: skip
        return ModelCard.from_template(self._hub_mixin_info.model_card_data, template_str=CARD, **values)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
