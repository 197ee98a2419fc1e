"""Predictions of models for a few records, in the form that reports use."""

from amodalseg import masks
from amodalseg.metrics.counts import count_object


def count_all(models, records):
    """Model -> row of counts, predicted mask and score of every record."""
    found = {}
    for model in models:
        predictions = [model.predict(record.image, record.modal) for record in records]
        pairs = zip(records, predictions, strict=True)
        found[model.name] = [(count_object(r, p, model.name), masks.encode(p.amodal), 1.0) for r, p in pairs]
    return found
