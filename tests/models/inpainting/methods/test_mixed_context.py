"""The method of paper 001 step by step, with an inpainting model that generates a known picture."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from amodalseg import Query, UserError
from amodalseg.config.load import load_config, to_dict
from amodalseg.config.schema import (
    InpaintConfig,
    InpaintingPriorConfig,
    MixedContextConfig,
    ModelOnly,
    NaiveOutpaintConfig,
    ReadOffConfig,
    SquareConfig,
    StepsConfig,
)
from amodalseg.models.inpainting.backends.backend import EmbeddedPrior, Estimate
from amodalseg.models.inpainting.backends.prior import build_scheduler, build_unet
from amodalseg.models.inpainting.methods.completion import Completion
from amodalseg.models.inpainting.methods.context import Windows, inpaint_windows, mix_contexts, pick_tap
from amodalseg.models.inpainting.methods.mixed_context import Inpaint, MixedContext
from amodalseg.models.inpainting.methods.outpaint import NaiveOutpaint
from amodalseg.models.inpainting.methods.progressive import Progressive
from amodalseg.models.inpainting.parts.clusters import cluster, cut_out
from amodalseg.models.inpainting.parts.read_off import whole
from amodalseg.models.inpainting.prior_training.validation import to_pictures
from tests.models.contract import ModelContract
from tests.models.contract import query as contract_query
from tests.models.inpainting.known_picture import KnownPicture

CONFIGS = Path(__file__).parents[4] / "configs/model/mixed_context"
RED, GREEN, BLUE, GREY = (210, 40, 40), (40, 140, 60), (30, 40, 200), (128, 128, 128)
SIDE = 32


def painted(colour, mask=None, behind=GREY, side=SIDE):
    picture = np.full((side, side, 3), behind, np.uint8)
    picture[np.ones((side, side), bool) if mask is None else mask] = colour
    return picture


def disk(side=SIDE, radius=8):
    y, x = np.indices((side, side))
    return (x - side // 2) ** 2 + (y - side // 2) ** 2 < radius**2


def tiny_prior():
    torch.manual_seed(0)
    unet = build_unet(InpaintingPriorConfig(size=16, channels=[8, 16], head=8)).eval()
    return EmbeddedPrior.of_network(unet, build_scheduler().alphas_cumprod)


def small(config):
    return replace(config, window=SquareConfig(size=16), sampler=StepsConfig(steps=3))


class TestClusters:
    def test_distant_groups_of_points_are_separated(self):
        rng = np.random.default_rng(0)
        truth = np.repeat([0, 1, 2], 40)
        points = np.array([[0, 0], [10, 0], [0, 10]])[truth] + 0.1 * rng.standard_normal((120, 2))
        for seed in range(5):
            labels = cluster(points, 3, np.random.default_rng(seed))
            assert ((labels[:, None] == labels) == (truth[:, None] == truth)).all()

    def test_every_point_belongs_to_the_nearest_centre(self):
        points = np.random.default_rng(1).random((200, 3))
        labels = cluster(points, 4, np.random.default_rng(0))
        centres = np.stack([points[labels == label].mean(axis=0) for label in range(4)])
        assert (((points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1) == labels).all()

    def test_fewer_points_than_clusters(self):
        labels = cluster(np.array([[1.0], [1.0], [5.0]]), 4, np.random.default_rng(0))
        assert labels[0] == labels[1] != labels[2]
        assert (cluster(np.zeros((6, 2)), 3, np.random.default_rng(0)) == 0).all()

    def test_clusters_of_the_visible_part_are_selected(self):
        # four quarters of a 4 x 4 grid, each a cluster; the visible part is in the left ones: 75 % and 25 %
        features = np.zeros((2, 4, 4))
        features[0, :, 2:], features[1, 2:] = 10, 10
        modal, hole = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
        modal[1:5, :3] = True
        hole[:, 2:6] = True
        quarter = np.zeros((8, 8), bool)
        quarter[:4, :4] = True
        both = quarter.copy()
        both[:, :4] = True
        for share, inside in ((0.2, both), (0.25, quarter), (0.8, np.zeros_like(modal))):
            found = cut_out(features, modal, hole, 4, share, np.random.default_rng(0))
            assert (found == (modal | (inside & hole))).all(), share
        one = cut_out(features, modal, hole, 4, 0.2, np.random.default_rng(0), "best_overlap")
        assert (one == (modal | (quarter & hole))).all()


@pytest.mark.parametrize("choice", ["all", "best_overlap"])
def test_the_option_for_choosing_clusters_is_passed_on(choice, monkeypatch):
    asked = []

    def listen(features, modal, hole, clusters, share, rng, how):
        asked.append(how)
        return modal | hole

    monkeypatch.setattr("amodalseg.models.inpainting.methods.context.cut_out", listen)
    query, _ = TestMethods().scene()
    config = replace(MixedContextConfig(iterations=1, choice=choice), window=SquareConfig(size=46))
    MixedContext(config, KnownPicture(np.zeros((46, 46, 3), np.uint8))).predict_batch([query])
    assert asked == [choice]


class TestMixing:
    """The whole object is a red disk whose right half is occluded."""

    steps = 10

    def mix(self, timestep=0.4, features=True, feature="auto"):
        self.whole = disk()
        self.modal = self.whole & (np.arange(SIDE) < 16)
        self.hole = np.zeros_like(self.modal)
        self.hole[4:28, 16:28] = True
        self.swapped, self.cleared = painted(RED, self.modal), painted(RED, self.modal, GREEN)
        self.drawn = painted(RED, self.whole, BLUE)
        self.backend = KnownPicture(self.drawn, self.whole[None].astype(float) if features else None)
        windows = Windows([self.swapped], [self.hole], [7], [""])
        return mix_contexts(
            self.backend, windows, [self.cleared], [self.modal], steps=self.steps, timestep=timestep, feature=feature
        )

    def test_the_composite_at_step_k(self):
        _, masks = self.mix()
        assert (masks[0] == self.whole).all()
        noise = torch.randn((1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(7))
        level, x, known = self.backend.states[4]
        # the generated object on the cleared background, both noised alike to the level of step k = 4
        expected = np.where(self.whole[..., None], self.drawn, self.cleared)
        assert level == self.backend.levels(10)[4]
        torch.testing.assert_close(x, level.alpha * to_pictures([expected]) + level.sigma * noise, atol=1e-5, rtol=0)
        assert torch.equal(known, to_pictures([self.cleared]))

    def test_levels_are_first_evaluated_on_the_clean_background_then_on_the_composite(self):
        for timestep, swap in ((0.4, 4), (0.0, 1), (0.75, 8), (1.0, 10)):
            self.mix(timestep)
            assert [level for level, _, _ in self.backend.states] == self.backend.levels(10)[:-1]
            at_home = [torch.equal(known, to_pictures([self.cleared])) for _, _, known in self.backend.states]
            assert at_home == [False] * swap + [True] * (10 - swap)

    def test_the_background_is_known_at_the_end(self):
        pictures, _ = self.mix()
        assert (pictures[0] == np.where(self.hole[..., None], self.drawn, self.cleared)).all()

    def test_with_all_steps_on_the_clean_background_the_object_is_only_pasted(self):
        pictures, _ = self.mix(1.0)
        assert (pictures[0] == np.where((self.hole & self.whole)[..., None], self.drawn, self.cleared)).all()

    def test_the_clean_estimate_can_be_clustered_instead(self):
        for features, feature in ((True, "clean"), (False, "auto")):
            _, masks = self.mix(features=features, feature=feature)
            assert (masks[0] == self.whole).all()

    def test_an_unknown_feature_is_refused(self):
        with pytest.raises(UserError, match=r"feature=mid_block: this inpainting model has auto, clean, up_blocks.2"):
            self.mix(feature="mid_block")
        assert pick_tap("auto", tiny_prior().abilities) == "up_blocks.1"


class Grower(Progressive):
    """Completes the object over the whole occluder, in blue. rounds: the crops of each round."""

    padding = 0.5

    def __init__(self, config, backend):
        super().__init__(config, backend)
        self.rounds = []

    @property
    def iterations(self):
        return self.config.iterations

    def complete(self, crops, steps):
        self.rounds.append(list(crops))
        return [Completion(crop.modal | crop.occluder, np.full_like(crop.picture, BLUE), 5) for crop in crops]


def grower(**options):
    config = MixedContextConfig(window=SquareConfig(size=48), **options)
    return Grower(config, KnownPicture(painted(RED)))


def bar(height=60, width=200, x0=20, x1=40):
    """A photo, and a block in its middle rows, away from the borders."""
    modal = np.zeros((height, width), bool)
    modal[25:35, x0:x1] = True
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8), modal


class TestRounds:
    def test_rounds_end_when_nothing_hides_the_object(self):
        image, modal = bar()
        occluder = np.zeros_like(modal)
        occluder[25:35, 40:130] = True
        model = grower()
        prediction = model.predict_batch([Query(image, modal, 3, occluder)])[0]
        assert (prediction.amodal == (modal | occluder)).all()
        assert len(model.rounds) > 1 and prediction.evaluations == 5 * len(model.rounds)
        assert len({crop.seed for crops in model.rounds for crop in crops}) == len(model.rounds)
        assert (prediction.image[occluder] == BLUE).all() and (prediction.image[~occluder] == image[~occluder]).all()

    def test_the_number_of_rounds_is_limited(self):
        image, modal = bar()
        occluder = np.zeros_like(modal)
        occluder[25:35, 40:190] = True
        found = []
        for iterations in (1, 2, 3):
            model = grower(iterations=iterations)
            found.append(model.predict_batch([Query(image, modal, 3, occluder)])[0].amodal.sum())
            assert len(model.rounds) == iterations
        assert found[0] < found[1] < found[2]

    def test_a_distant_occluder_hides_nothing(self):
        image, modal = bar(x1=60)
        occluder = np.zeros_like(modal)
        occluder[:, 70:] = True  # a gap of ten columns
        with pytest.warns(UserWarning, match="1 of 1 objects have no known occluder"):
            prediction = grower().predict_batch([Query(image, modal, 0, occluder)])[0]
        assert (prediction.amodal == modal).all() and prediction.evaluations == 0 and (prediction.image == image).all()
        model = grower(contact=11)
        model.predict_batch([Query(image, modal, 0, occluder)])
        assert model.rounds

    def test_without_an_occluder_the_prediction_is_the_modal_mask_with_a_warning(self):
        image, modal = bar()
        with pytest.warns(UserWarning, match=r"give the occluder, or set model\.depth"):
            prediction = grower().predict_batch([Query(image, modal)])[0]
        assert (prediction.amodal == modal).all() and prediction.evaluations == 0
        assert (prediction.canvas.top, prediction.canvas.left, prediction.canvas.mask.shape) == (25, 20, (10, 20))

    @pytest.mark.parametrize("gap", [0, 9, 10])
    def test_completion_beyond_a_border_that_the_object_touches(self, gap):
        image, modal = bar(height=140, x0=gap, x1=30)
        modal = np.roll(modal, 40, axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prediction = grower(iterations=1).predict_batch([Query(image, modal)])[0]
        assert (prediction.amodal == modal).all()  # pixels beyond the border are not in the photo
        canvas = prediction.canvas
        if gap == 10:
            assert canvas.left == 10 and prediction.evaluations == 0
        else:
            assert canvas.left < 0 and prediction.evaluations > 0
            assert canvas.mask[:, : -canvas.left].any() and (canvas.picture[:, : -canvas.left] == BLUE).all()
            inside = canvas.mask[:, -canvas.left :]
            height, width = inside.shape
            assert (inside == modal[canvas.top : canvas.top + height, :width]).all()

    def test_all_four_borders_and_a_photo_of_16_px(self):
        image, modal = np.full((16, 16, 3), RED, np.uint8), np.ones((16, 16), bool)
        prediction = grower().predict_batch([Query(image, modal)])[0]
        assert (prediction.amodal == modal).all() and (prediction.image == image).all()
        canvas = prediction.canvas
        assert canvas.top == canvas.left == -8 and canvas.mask.shape == (32, 32) and canvas.mask.all()

    def test_the_window_is_pasted_back_exactly(self):
        # a window of side 48 around an object of 24: nothing is resized
        image = np.random.default_rng(1).integers(0, 256, (100, 100, 3), np.uint8)
        modal, occluder = np.zeros((100, 100), bool), np.zeros((100, 100), bool)
        modal[40:64, 30:54] = True
        occluder[45:60, 54:60] = True
        prediction = grower().predict_batch([Query(image, modal, 0, occluder)])[0]
        assert (prediction.amodal == (modal | occluder)).all()
        model = grower()
        model.predict_batch([Query(image, modal, 0, occluder)])
        crop = model.rounds[0][0]
        assert (crop.picture == image[28:76, 18:66]).all() and (crop.modal == modal[28:76, 18:66]).all()
        near = np.zeros_like(occluder)  # the hole is a pixel larger, so that nothing of the occluder stays visible
        for dy, dx in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)):
            near |= np.roll(occluder, (dy, dx), (0, 1))
        assert (crop.occluder == near[28:76, 18:66]).all()

    def test_rounds_of_one_object_do_not_depend_on_the_others(self):
        image, modal = bar()
        near, far = np.zeros_like(modal), np.zeros_like(modal)
        near[25:35, 40:50], far[25:35, 40:130] = True, True
        queries = [Query(image, modal, 1, near), Query(image, modal, 2, far), Query(image, modal, 3, near)]
        together = grower().predict_batch(queries)
        for one, asked in zip(together, queries, strict=True):
            alone = grower().predict_batch([asked])[0]
            assert (one.amodal == alone.amodal).all() and one.evaluations == alone.evaluations

    def test_an_occluder_of_another_size_is_refused(self):
        image, modal = bar()
        with pytest.raises(UserError, match="occluder and modal mask differ in size"):
            grower().predict_batch([Query(image, modal, 0, modal[:-1])])


class TestNewOccluders:
    """A depth model for which blue is near."""

    def model(self, monkeypatch, **options):
        class Depth:
            def nearer(self, picture):
                return (picture == BLUE).all(axis=2).astype(np.float32)

        monkeypatch.setattr("amodalseg.models.inpainting.methods.base_method.open_depth", lambda name, device: Depth())
        monkeypatch.setattr("amodalseg.models.inpainting.methods.base_method.check_helpers", lambda helpers: None)
        return grower(depth="any", **options)

    def test_nearer_pixels_that_touch_the_object_hide_it(self, monkeypatch):
        image, modal = np.full((100, 100, 3), GREEN, np.uint8), np.zeros((100, 100), bool)
        modal[40:64, 30:54] = True
        image[modal] = RED
        post = np.zeros_like(modal)
        post[30:70, 54:60] = True
        image[post] = BLUE
        prediction = self.model(monkeypatch, iterations=1).predict_batch([Query(image, modal)])[0]
        assert prediction.evaluations == 5 and (prediction.amodal & post).sum() > 0.9 * post.sum()

    def test_a_given_empty_occluder_is_used_instead_of_depth(self, monkeypatch):
        image, modal = np.full((100, 100, 3), BLUE, np.uint8), np.zeros((100, 100), bool)
        modal[40:64, 30:54] = True
        image[modal] = RED
        with pytest.warns(UserWarning, match="no known occluder"):
            prediction = self.model(monkeypatch).predict_batch([Query(image, modal, 0, np.zeros_like(modal))])[0]
        assert (prediction.amodal == modal).all()


class TestLookedForAgain:
    """A second occluder appears in the picture generated in the first round; blue is near."""

    def scene(self):
        """A photo of a red block behind a post, which is the given occluder."""
        image, modal = np.full((100, 100, 3), GREEN, np.uint8), np.zeros((100, 100), bool)
        modal[40:64, 30:54] = True
        image[modal] = RED
        post = np.zeros_like(modal)
        post[36:68, 54:66] = True
        image[post] = (200, 200, 60)
        return Query(image, modal, 0, post)

    def model(self, monkeypatch, **options):
        class Depth:
            def nearer(self, picture):
                red, green, blue = np.moveaxis(picture.astype(int), 2, 0)
                return ((blue > red - 60) & (green < 100)).astype(np.float32)  # including blends of blue and red

        class Scripted(Grower):
            def complete(self, crops, steps):
                self.rounds.append(list(crops))
                done = []
                for crop in crops:
                    picture = np.where(crop.occluder[..., None], np.uint8(RED), crop.picture)
                    hidden = crop.occluder.copy()
                    if len(self.rounds) == 1:  # the right half of the generated part shows a new occluder
                        hidden &= np.arange(hidden.shape[1]) < np.nonzero(hidden.any(axis=0))[0].mean()
                        picture[crop.occluder & ~hidden] = BLUE
                    done.append(Completion(crop.modal | hidden, picture, 5))
                return done

        monkeypatch.setattr("amodalseg.models.inpainting.methods.base_method.open_depth", lambda name, device: Depth())
        monkeypatch.setattr("amodalseg.models.inpainting.methods.base_method.check_helpers", lambda helpers: None)
        config = MixedContextConfig(window=SquareConfig(size=48), depth="any", **options)
        return Scripted(config, KnownPicture(painted(RED)))

    @pytest.mark.parametrize(("occluders", "rounds"), [("given", 1), ("both", 2)])
    def test_a_second_occluder_is_completed_in_the_second_round_unless_only_given_ones_are_used(
        self, occluders, rounds, monkeypatch
    ):
        query = self.scene()
        model = self.model(monkeypatch, occluders=occluders)
        prediction = model.predict_batch([query])[0]
        assert len(model.rounds) == rounds
        share = (prediction.amodal & query.occluder)[40:64].sum() / query.occluder[40:64].sum()
        assert (share > 0.9) == (occluders == "both") and share > 0.3
        assert (prediction.image[50, 63] == (RED if occluders == "both" else query.image[50, 63])).all()

    def test_occluders_found_ignores_given_occluders(self, monkeypatch):
        query = self.scene()  # the post is not blue, so it is not found
        model = self.model(monkeypatch, occluders="found")
        with pytest.warns(UserWarning, match=r"or model\.occluders=found"):
            prediction = model.predict_batch([query])[0]
        assert (prediction.amodal == query.modal).all() and not model.rounds

    def test_without_any_model_the_order_is_estimated_from_outlines(self):
        image, modal = np.full((100, 100, 3), GREEN, np.uint8), np.zeros((100, 100), bool)
        modal[40:64, 30:70] = True
        post = np.zeros_like(modal)
        post[30:74, 46:54] = True  # in front: it splits the object
        modal &= ~post
        image[modal], image[post] = RED, BLUE
        prediction = grower(occluders="found", iterations=1).predict_batch([Query(image, modal)])[0]
        assert prediction.amodal[40:64][post[40:64]].mean() > 0.7 and not prediction.amodal[:28].any()

    def test_a_detector_provides_the_other_objects(self, monkeypatch):
        query = self.scene()
        asked = []

        class Posts:
            def boxes(self, picture, words):
                asked.append(words)
                rows, columns = np.nonzero((picture == (200, 200, 60)).all(axis=2))
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                return np.array([box, [0, 0, 2, 2]] if len(rows) else np.zeros((0, 4), int))

        monkeypatch.setattr(
            "amodalseg.models.inpainting.methods.progressive.open_detector", lambda name, device: Posts()
        )
        monkeypatch.setattr("amodalseg.models.inpainting.methods.base_method.check_helpers", lambda helpers: None)
        options = {"occluders": "found", "detector": "any", "sought": ["post"], "iterations": 1}
        monkeypatch.setattr("amodalseg.models.inpainting.parts.occluders.hides_by_contact", lambda one, other: True)
        prediction = grower(**options).predict_batch([Query(query.image, query.modal)])[0]
        assert asked == [["post"]] and (prediction.amodal & query.occluder).sum() > 0.9 * query.occluder.sum()


class TestMethods:
    """A red disk on green, its right part behind a blue post; the model generates the disk on grey or on green."""

    def scene(self):
        whole_, post = disk(48, 12), np.arange(48)[None] * np.ones((48, 1)) >= 30
        image = painted(RED, whole_, GREEN, 48)
        image[post] = BLUE
        return Query(image, whole_ & ~post, 5, post), whole_

    def predict(self, method, config, behind, read="difference"):
        query, truth = self.scene()
        # the object's box has rows 13 to 35 and columns 13 to 29: a window of side 46 begins in row 2 and column -2
        config = replace(config, window=SquareConfig(size=46), read_off=ReadOffConfig(kind=read))
        picture = np.pad(painted(RED, truth, behind, 48), ((0, 0), (2, 0), (0, 0)), mode="edge")[2:48, :46]
        return method(config, KnownPicture(picture)).predict_batch([query])[0]

    def iou(self, found, truth):
        return (found & truth).sum() / (found | truth).sum()

    @pytest.mark.parametrize(
        ("method", "config", "behind", "read"),
        [
            (MixedContext, MixedContextConfig(iterations=1, answer="clusters"), GREY, "difference"),
            (MixedContext, MixedContextConfig(iterations=1), GREEN, "difference"),
            (MixedContext, MixedContextConfig(iterations=1, swap=False), GREEN, "difference"),
            (MixedContext, MixedContextConfig(iterations=1), GREEN, "grabcut"),
            (Inpaint, InpaintConfig(), GREEN, "difference"),
        ],
    )
    def test_the_generated_object_is_predicted(self, method, config, behind, read):
        query, truth = self.scene()
        prediction = self.predict(method, config, behind, read)
        assert self.iou(query.modal, truth) < 0.8 and self.iou(prediction.amodal, truth) > 0.97
        assert (prediction.image[prediction.occluded & truth] == RED).all() and prediction.evaluations == 20

    def test_an_object_completed_on_grey_is_composited_on_its_background(self):
        prediction = self.predict(MixedContext, MixedContextConfig(iterations=1, composite=False), (135, 135, 135))
        _, truth = self.scene()
        assert self.iou(prediction.amodal, truth) > 0.97


@pytest.mark.filterwarnings("ignore:.*no known occluder")
class TestMixedContext(ModelContract):
    @classmethod
    def make(cls):
        return MixedContext(small(MixedContextConfig(iterations=2)), tiny_prior())


@pytest.mark.filterwarnings("ignore:.*no known occluder")
class TestInpaint(ModelContract):
    @classmethod
    def make(cls):
        return Inpaint(small(InpaintConfig()), tiny_prior())


class TestNaiveOutpaint(ModelContract):
    @classmethod
    def make(cls):
        return NaiveOutpaint(small(NaiveOutpaintConfig()), tiny_prior())


@pytest.mark.parametrize("method", [MixedContext, Inpaint, NaiveOutpaint])
class TestRandomNumbers:
    def ask(self, method, seed, num_samples=1):
        config = {MixedContext: MixedContextConfig(), Inpaint: InpaintConfig(), NaiveOutpaint: NaiveOutpaintConfig()}
        asked = contract_query(40, 60, (10, 10, 30, 30), seed=1)
        occluder = np.zeros_like(asked.modal)
        occluder[5:35, 30:45] = True
        query = replace(asked, seed=seed, occluder=occluder)
        return method(small(config[method]), tiny_prior()).predict_batch([query], num_samples=num_samples)[0]

    def test_seeds(self, method):
        first, again, other = (self.ask(method, seed) for seed in (4, 4, 5))
        assert (first.image == again.image).all() and (first.image != other.image).any()

    def test_a_prediction_does_not_depend_on_the_rest_of_its_batch(self, method):
        config = {MixedContext: MixedContextConfig(), Inpaint: InpaintConfig(), NaiveOutpaint: NaiveOutpaintConfig()}
        model, queries = method(small(config[method]), tiny_prior()), []
        for seed in range(3):
            asked = contract_query(40, 60, (10, 10, 30, 20 + 5 * seed), seed=seed)
            occluder = np.zeros_like(asked.modal)
            occluder[5:35, 30:45] = True
            queries.append(replace(asked, occluder=occluder))
        for together, query in zip(model.predict_batch(queries), queries, strict=True):
            alone = model.predict_batch([query])[0]
            assert (together.amodal == alone.amodal).all() and together.evaluations == alone.evaluations > 0
            both = together.occluded
            np.testing.assert_allclose(together.image[both].astype(int), alone.image[both].astype(int), atol=1)

    def test_several_samples(self, method):
        one, several = self.ask(method, 4), self.ask(method, 4, 3)
        assert several.samples.shape == (3, 40, 60) and (several.samples[0] == one.amodal).all()
        assert several.evaluations == 3 * one.evaluations > 0


def test_only_parts_connected_to_the_visible_part_belong_to_the_object():
    modal, hole, mask = (np.zeros((6, 9), bool) for _ in range(3))
    modal[2, 1], hole[:, 2:] = True, True
    mask[2, 2:4], mask[5, 8] = True, True
    expected = np.zeros_like(mask)
    expected[2, 2:4] = True
    assert (whole(mask, modal, hole) == expected).all()  # the visible part is included only if it was read off


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_ablation_files_are_valid_configurations(path):
    config = load_config(ModelOnly, path).model
    assert config.name == "mixed_context"
    own = to_dict(config)
    assert own != to_dict(MixedContextConfig()), "an ablation that changes nothing"


def test_ablation_files_exist():
    assert {path.stem.split("_")[0] for path in CONFIGS.glob("*.yaml")} >= {"no", "timestep", "feature", "iterations"}


class Reader(KnownPicture):
    """Generates white with a prompt, and grey without."""

    def __init__(self, picture):
        super().__init__(picture)
        self.abilities = replace(self.abilities, text=True)

    def prepare(self, pictures, holes, prompts=None):
        lengths = torch.tensor([float(bool(prompt)) for prompt in prompts])[:, None, None, None]
        return replace(super().prepare(pictures, holes), inputs={"prompt": lengths})

    def estimate(self, x, level, prepared, taps=()):
        self.states.append(level)
        clean = 0.5 * prepared.inputs["prompt"].expand_as(x)
        return Estimate(clean, (x - level.alpha * clean) / level.sigma, {})


@pytest.mark.parametrize(("weight", "prompt", "grey"), [(1.0, "cat", 0.5), (1.5, "cat", 0.75), (1.5, "", 0.0)])
def test_guidance_by_the_category(weight, prompt, grey):
    backend = Reader(painted(RED))
    windows = Windows([painted(RED)], [np.ones((SIDE, SIDE), bool)], [3], [prompt])
    picture = inpaint_windows(backend, windows, 5, weight)
    assert np.abs(picture / 127.5 - 1 - grey).max() < 0.01
    assert len(backend.states) == (10 if prompt and weight != 1 else 5)
