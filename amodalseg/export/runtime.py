"""The predictor of exported files, ``amodalseg.models.exported``, under the name that release 0.1 gave it."""

from amodalseg.models.exported import FORMAT, OnnxPredictor

__all__ = ["FORMAT", "OnnxPredictor"]
