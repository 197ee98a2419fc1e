"""Amodal segmentation: image + modal mask -> amodal mask.

Public names are loaded on first use, so importing the package is fast and has no side effects.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.4.0"

_PUBLIC = {
    "AmodalRecord": "amodalseg.types",
    "CondDiffAMO": "amodalseg.models.conddiff_amo.model",
    "Edited": "amodalseg.engine.prediction.edit",
    "Likeness": "amodalseg.engine.evaluation.likeness",
    "ObjectDistances": "amodalseg.engine.evaluation.object_distances",
    "Prediction": "amodalseg.predictions",
    "Query": "amodalseg.types",
    "Region": "amodalseg.types",
    "UserError": "amodalseg.errors",
    "cutout": "amodalseg.models.cutout",
    "edit": "amodalseg.engine.prediction.edit",
    "evaluate": "amodalseg.engine.evaluation.evaluate",
    "export_model": "amodalseg.export.write",
    "judge": "amodalseg.models.inpainting.methods.curation",
    "list_datasets": "amodalseg.data.catalog",
    "list_models": "amodalseg.models",
    "list_protocols": "amodalseg.metrics.protocols",
    "load_model": "amodalseg.models",
    "move": "amodalseg.engine.prediction.move",
    "order": "amodalseg.engine.prediction.scene",
    "read_dataset": "amodalseg.data.catalog",
    "select": "amodalseg.engine.prediction.select",
}
__all__ = [
    "AmodalRecord",
    "CondDiffAMO",
    "Edited",
    "Likeness",
    "ObjectDistances",
    "Prediction",
    "Query",
    "Region",
    "UserError",
    "__version__",
    "cutout",
    "edit",
    "evaluate",
    "export_model",
    "judge",
    "list_datasets",
    "list_models",
    "list_protocols",
    "load_model",
    "move",
    "order",
    "read_dataset",
    "select",
]

if TYPE_CHECKING:
    from amodalseg.data.catalog import list_datasets, read_dataset
    from amodalseg.engine.evaluation.evaluate import evaluate
    from amodalseg.engine.evaluation.likeness import Likeness
    from amodalseg.engine.evaluation.object_distances import ObjectDistances
    from amodalseg.engine.prediction.edit import Edited, edit
    from amodalseg.engine.prediction.move import move
    from amodalseg.engine.prediction.scene import order
    from amodalseg.engine.prediction.select import select
    from amodalseg.errors import UserError
    from amodalseg.export.write import export_model
    from amodalseg.metrics.protocols import list_protocols
    from amodalseg.models import list_models, load_model
    from amodalseg.models.conddiff_amo.model import CondDiffAMO
    from amodalseg.models.cutout import cutout
    from amodalseg.models.inpainting.methods.curation import judge
    from amodalseg.predictions import Prediction
    from amodalseg.types import AmodalRecord, Query, Region


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'amodalseg' has no attribute '{name}'")
    try:
        return getattr(import_module(_PUBLIC[name]), name)
    except ModuleNotFoundError as error:
        from amodalseg.errors import explain_missing

        told = explain_missing(error, f"amodalseg.{name}")
        if told is None:
            raise
        raise told from error


def __dir__() -> list[str]:
    return sorted(__all__)
