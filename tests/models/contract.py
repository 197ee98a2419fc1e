"""The contract of every model. A test class inherits ``ModelContract`` and defines how to create its model."""

import numpy as np
import pytest

from amodalseg import Query, UserError
from amodalseg.models.base import AmodalModel


def query(height: int, width: int, box: tuple[int, int, int, int], seed: int = 0) -> Query:
    rng = np.random.default_rng(seed)
    modal = np.zeros((height, width), bool)
    x0, y0, x1, y1 = box
    modal[y0:y1, x0:x1] = True
    return Query(rng.integers(0, 256, (height, width, 3), np.uint8), modal, seed)


class ModelContract:
    """Subclasses define ``make``."""

    always_contains_modal = True

    @classmethod
    def make(cls) -> AmodalModel:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        return cls.make()

    @pytest.mark.parametrize(
        ("height", "width", "box"),
        [
            (40, 60, (10, 10, 30, 30)),
            (61, 37, (0, 0, 37, 61)),  # the whole photo
            (50, 50, (0, 20, 5, 50)),  # at the border
            (33, 200, (150, 16, 151, 17)),  # one pixel
            (7, 9, (2, 2, 6, 5)),  # smaller than any window
        ],
    )
    def test_masks_have_the_size_of_the_photo(self, model, height, width, box):
        asked = query(height, width, box)
        before = asked.image.copy(), asked.modal.copy()
        prediction = model.predict(asked.image, asked.modal, seed=3)
        assert prediction.amodal.shape == prediction.raw.shape == prediction.modal.shape == (height, width)
        assert prediction.amodal.dtype == prediction.raw.dtype == bool
        assert (prediction.occluded == (prediction.amodal & ~asked.modal)).all()
        if prediction.probability is not None:
            assert prediction.probability.dtype == np.float32 and prediction.probability.shape == (height, width)
            assert prediction.probability.min() >= 0 and prediction.probability.max() <= 1
            assert 0 <= prediction.score <= 1
        if self.always_contains_modal:
            assert not (asked.modal & ~prediction.amodal).any()
        assert (asked.image == before[0]).all() and (asked.modal == before[1]).all()

    def test_the_same_query_has_the_same_prediction(self, model):
        asked = query(40, 60, (10, 10, 30, 30))
        first, second = (model.predict(asked.image, asked.modal, seed=5) for _ in range(2))
        assert (first.amodal == second.amodal).all()
        if first.probability is not None:
            assert (first.probability == second.probability).all()

    def test_a_prediction_does_not_depend_on_the_rest_of_its_batch(self, model):
        asked = [query(40, 60, (10, 10, 30, 30), 1), query(64, 32, (3, 3, 20, 50), 2), query(40, 60, (1, 2, 9, 9), 3)]
        together = model.predict_batch(asked)
        alone = [model.predict_batch([one])[0] for one in asked]
        for one, other in zip(together, alone, strict=True):
            if one.probability is None:
                assert (one.amodal == other.amodal).all()
            else:
                np.testing.assert_allclose(one.probability, other.probability, atol=1e-4)

    def test_only_queries_with_a_target_are_moved(self, model):
        asked = query(40, 60, (10, 10, 30, 30), 1)
        asked.to = (44, 17)
        moving, resting = model.predict_batch([asked, query(40, 60, (10, 10, 30, 30), 1)])
        assert resting.moved is None and resting.moved_mask is None
        assert moving.moved.dtype == np.uint8 and moving.moved.shape == (40, 60, 3)
        assert moving.moved_mask.dtype == bool and moving.moved_mask.shape == (40, 60)
        assert (moving.amodal == resting.amodal).all()
        assert moving.moved_mask[17, 44] == moving.amodal[20, 20], "the middle of the modal box lies at the target"
        assert (moving.moved[:, :7] == asked.image[:, :7]).all(), "far from both places nothing changes"

    @pytest.mark.parametrize(
        ("to", "message"),
        [
            ((60, 5), "the target 60,5 lies outside the photo of 60x40"),
            ((3, -1), "lies outside the photo"),
            ((3.5, 1), "two whole numbers"),
            ("30,20", "two whole numbers"),
        ],
    )
    def test_a_target_outside_the_photo_is_refused(self, model, to, message):
        asked = query(40, 60, (10, 10, 30, 30), 1)
        asked.to = to
        with pytest.raises(UserError, match=message):
            model.predict_batch([asked])

    def test_an_empty_batch_has_no_predictions(self, model):
        assert model.predict_batch([]) == []

    @pytest.mark.parametrize(
        ("image", "modal", "message"),
        [
            (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool), "empty"),
            (np.zeros((8, 8, 3), np.uint8), np.ones((8, 9), bool), "differ in size: 8x8 and 9x8"),
            (np.zeros((8, 8, 2), np.uint8), np.ones((8, 8), bool), "uint8 array"),
            (np.zeros((8, 8, 3), np.float32), np.ones((8, 8), bool), "float32"),
            (np.zeros((8, 8, 3), np.uint8), np.full((8, 8), 255, np.uint8), "mask > 127"),
        ],
    )
    def test_invalid_queries_are_refused_in_one_line(self, model, image, modal, message):
        with pytest.raises(UserError, match=message) as caught:
            model.predict(image, modal)
        assert "\n" not in str(caught.value)
