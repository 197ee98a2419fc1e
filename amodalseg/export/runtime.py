"""The predictor for exported files, ``amodalseg.models.exported``, under its name from release 0.1."""

from amodalseg.models.exported import FORMAT, OnnxPredictor

__all__ = ["FORMAT", "OnnxPredictor"]
