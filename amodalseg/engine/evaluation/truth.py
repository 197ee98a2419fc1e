"""The upper bound of every metric: the ground truth, in place of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from amodalseg import masks
from amodalseg.data.record_pictures import record_edited, record_moved, record_whole
from amodalseg.errors import UserError
from amodalseg.models.base import AmodalModel
from amodalseg.predictions import Prediction
from amodalseg.types import AmodalRecord, Query


class Truth(AmodalModel):
    """Predicts the ground truth of records, so it cannot predict from a query alone."""

    name = "truth"

    def predict_batch(
        self, queries: Sequence[Query], *, num_samples: int = 1, steps: int | None = None
    ) -> list[Prediction]:
        raise UserError("'truth' is an upper bound that needs annotated records: use it in amodalseg eval")

    def recite(self, record: AmodalRecord, query: Query) -> Prediction:
        """The prediction for a record's query. Picture, move and edit are None if the record does not have them."""
        amodal = record.amodal
        found = Prediction(query.modal, (amodal | query.modal)[None], has_probability=False)
        whole = record_whole(record)
        if whole is not None:
            found.image = np.where((amodal & ~query.modal)[..., None], whole, query.image)
        if record.move is not None:
            found.moved, found.moved_mask = record_moved(record), masks.decode(record.move.mask_rle)
        found.edited = record_edited(record)
        return found
