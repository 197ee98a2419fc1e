"""The node in ``integrations/comfyui`` without ComfyUI: loaded, inspected and called as ComfyUI does."""

import importlib.util
import inspect
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from amodalseg import Prediction, UserError, cutout, load_model
from amodalseg.predictions import Canvas
from tests.worlds import disc, photo

FOLDER = Path(__file__).parents[2] / "integrations/comfyui"
ONNX = str(FOLDER.parents[1] / "checkpoints/conddiff_amo_lite.onnx")
SIZE = 61, 83
MODAL = np.stack([disc(*SIZE, 40, 30, 22, 18), disc(*SIZE, 66, 30, 16, 22)]) & ~disc(*SIZE, 52, 30, 8, 40)
CORE = {
    "LoadImage": (("IMAGE", "MASK"), {"image": "COMBO"}),
    "SaveImage": ((), {"images": "IMAGE", "filename_prefix": "STRING"}),
    "MaskToImage": (("IMAGE",), {"mask": "MASK"}),
}
"""Outputs and inputs of ComfyUI's own nodes in the workflow."""


@pytest.fixture(scope="module")
def nodes():
    name = str(FOLDER).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, FOLDER / "__init__.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS.keys() == module.NODE_DISPLAY_NAME_MAPPINGS.keys()
    return module.NODE_CLASS_MAPPINGS


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return np.stack([photo(rng, *SIZE), photo(rng, *SIZE)])


def call(nodes, images, modal, model=ONNX, threshold=0.0, seed=0):
    kind = nodes["AmodalsegComplete"]
    given = {"image": torch.from_numpy(images) / 255, "modal": torch.from_numpy(modal).float(),
             "model": model, "threshold": threshold, "seed": seed}  # fmt: skip
    assert given.keys() == kind.INPUT_TYPES()["required"].keys()
    with torch.inference_mode():
        found = getattr(kind(), kind.FUNCTION)(**given)
    assert len(found) == len(kind.RETURN_TYPES) == len(kind.RETURN_NAMES) == len(kind.OUTPUT_TOOLTIPS)
    assert all(value.dtype == torch.float32 and value.device.type == "cpu" for value in found)
    return [value.numpy() for value in found]


def test_inputs_have_valid_defaults_for_comfyui(nodes):
    kind = nodes["AmodalsegComplete"]
    inputs = kind.INPUT_TYPES()["required"]
    assert list(inspect.signature(getattr(kind, kind.FUNCTION)).parameters)[1:] == list(inputs)
    for name, (of, options) in inputs.items():
        if of in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"], name
    assert inputs["model"][1]["default"] == "conddiff_amo_lite"


def test_the_workflow_matches_the_node(nodes):
    flow = json.loads((FOLDER / "workflow.json").read_text())
    own = nodes["AmodalsegComplete"]
    kinds = CORE | {
        "AmodalsegComplete": (own.RETURN_TYPES, {name: of for name, (of, _) in own.INPUT_TYPES()["required"].items()})
    }
    assert {node["class_type"] for node in flow.values()} == kinds.keys()
    for node in flow.values():
        _, inputs = kinds[node["class_type"]]
        assert node["inputs"].keys() == inputs.keys()
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                outputs, _ = kinds[flow[value[0]]["class_type"]]
                assert outputs[value[1]] == inputs[name]


def test_several_masks_of_one_photo_are_its_objects(nodes, pictures):
    amodal, occluded, alone = call(nodes, pictures[:1], MODAL, seed=3)
    wanted = load_model(ONNX).predict(pictures[0], MODAL, seed=3)
    assert wanted.occluded.any()
    assert (amodal == wanted.amodal).all() and (occluded == wanted.occluded).all()
    pieces = [cutout(pictures[0], one, crop=False).picture for one in wanted]
    assert alone.shape == (2, *SIZE, 4) and (np.rint(alone * 255) == pieces).all()
    assert (amodal[0] == call(nodes, pictures[:1], MODAL[0], seed=3)[0]).all()  # a mask without a batch dimension
    transparent = np.concatenate([pictures[:1], np.zeros_like(pictures[:1, ..., :1])], axis=-1)
    assert (amodal == call(nodes, transparent, MODAL, seed=3)[0]).all()


def test_each_mask_can_have_its_own_photo(nodes, pictures):
    amodal, _, alone = call(nodes, pictures, MODAL)
    for number in range(2):
        one = load_model(ONNX).predict(pictures[number], MODAL[number])
        assert (amodal[number] == one.amodal).all()
        assert (np.rint(alone[number] * 255) == cutout(pictures[number], one, crop=False).picture).all()


def test_pixels_beyond_the_photo_are_left_out(nodes, pictures):
    mask = np.ones((SIZE[0] + 7, SIZE[1] + 9), bool)
    canvas = Canvas(mask, np.zeros((*mask.shape, 3), np.uint8), top=-5, left=-3)
    prediction = Prediction(MODAL[0], MODAL[:1], canvas=canvas)
    assert cutout(pictures[0], prediction, crop=False).picture.shape[:2] == mask.shape
    alone = sys.modules[nodes["AmodalsegComplete"].__module__].alone(pictures[0], prediction)
    assert ((alone[..., 3] == 255) == MODAL[0]).all()
    assert (alone[..., :3] == pictures[0])[MODAL[0]].all()


def test_the_threshold_changes_the_mask(nodes, pictures):
    few, own, many = (call(nodes, pictures[:1], MODAL, threshold=t)[1].sum() for t in (0.95, 0.0, 0.05))
    assert few < own < many


def test_mistakes_end_in_one_line(nodes, pictures):
    one = pictures[:1]
    broken = np.full((1, *SIZE, 3), np.nan, np.float32)
    for images, modal, options, line in (
        (one, np.stack([MODAL[0], MODAL[0] & False]), {}, "mask 2 of 2 is empty"),
        (one, np.zeros((1, 64, 64)), {}, "the mask is empty: .*Load Image"),
        (one, np.ones((1, 64, 64)), {}, "83x61 and 64x64"),
        (np.concatenate([pictures, one]), MODAL, {}, "3 photos and 2 masks"),
        (broken, MODAL[:1], {}, "NaN"),
        (one, MODAL, {"model": "convex_hul"}, "did you mean 'convex_hull'"),
        (one, MODAL, {"model": "convex_hull", "threshold": 0.3}, "no probability"),
    ):
        with pytest.raises(UserError, match=line):
            call(nodes, images, modal, **options)
