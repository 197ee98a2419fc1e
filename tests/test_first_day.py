"""The first steps with the project, as in its documentation, through the command line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import amodalseg
from amodalseg.cli import main
from amodalseg.config import shipped
from amodalseg.config.load import load_config
from amodalseg.config.schema import EvalConfig, ModelOnly, TrainConfig
from amodalseg.data.open import open_source
from amodalseg.models.conddiff_amo import reach
from amodalseg.report import table
from amodalseg.report.page import html_page
from tests.engine.journeys import SMALL
from tests.refusals import refused
from tests.worlds import coco_amodal_world, coco_world, cocoa_world
from tests.worlds.labelme import labelme_world

ROOT = Path(__file__).parents[1]


def test_configurations_that_ship_are_found_by_name_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert load_config(TrainConfig, "conddiff_amo_cocoa").data.name == "cocoa"
    assert load_config(TrainConfig, "table4/a").model.pcn.modal is False
    assert load_config(TrainConfig, "configs/experiment/photos_tiny.yaml").out == "outputs/photos_tiny"
    assert load_config(EvalConfig, "cocoa").data.name == "cocoa"
    assert load_config(ModelOnly, "noise_fill/occluders.yaml").model.name == "noise_fill"
    (tmp_path / "cocoa.yaml").write_text("out: mine\ndata: {name: synthetic}\n")
    assert load_config(EvalConfig, "cocoa.yaml").out == "mine"  # a user's own file comes first
    refused(capsys, ["train", "photos_tyni"], "no configuration file at photos_tyni", "did you mean 'photos_tiny'")
    arguments = [option for option in SMALL if "max_steps" not in option]
    assert main(["train", "synthetic_tiny", "out=run", *arguments, "trainer.max_steps=1"]) == 0
    assert (tmp_path / "run/model.safetensors").is_file()


def test_an_installed_package_contains_the_configurations(tmp_path, monkeypatch):
    assert shipped.CONFIGS == (ROOT / "amodalseg/configs", ROOT / "configs")
    (tmp_path / "configs/experiment").mkdir(parents=True)
    (tmp_path / "configs/experiment/mine.yaml").write_text("base: ../model.yaml\nout: x\n")
    (tmp_path / "configs/model.yaml").write_text(
        "model: {name: direct}\ndata: {name: synthetic}\nval: {name: synthetic}"
    )
    monkeypatch.setattr(shipped, "CONFIGS", (tmp_path / "configs", tmp_path / "absent"))
    assert shipped.shipped_configs(TrainConfig) == ["mine"]
    assert load_config(TrainConfig, "mine").model.name == "direct"
    assert load_config(TrainConfig, "configs/experiment/mine.yaml").out == "x"


def test_version_protocols_and_data_sets(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"amodalseg {amodalseg.__version__}\n"
    assert {"per_object_occluded", "c2f", "amodal_ap"} <= set(amodalseg.list_protocols())
    assert "cocoa" in amodalseg.list_datasets() and "modal" in amodalseg.list_models()


def test_models_are_listed_with_their_kind_and_size(capsys):
    assert main(["models"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == amodalseg.list_models()
    assert "no weights" in lines["modal"] and "modal mask itself" in lines["modal"]
    assert "inpainting model" in lines["mixed_context"]
    assert "9.7 MB" in lines["conddiff_amo_lite"]
    shipped_line = lines["conddiff_amo_tiny"]
    assert "11.2 MB" in shipped_line and "5.56 M parameters, window of 96 px" in shipped_line
    assert main(["models", "--verbose"]) == 0
    assert "licence: apache-2.0" in capsys.readouterr().out


def test_cost_of_a_model_by_name_and_of_an_experiment(capsys):
    assert main(["cost", "conddiff_amo_tiny"]) == 0
    by_name = capsys.readouterr().out
    assert "conddiff_amo, 96 px" in by_name and "5.56 M parameters" in by_name
    assert main(["cost", "photos_tiny"]) == 0
    assert capsys.readouterr().out == by_name
    assert main(["cost", "conddiff_amo_tiny", "model.window.size=64"]) == 0
    assert "conddiff_amo, 64 px" in capsys.readouterr().out
    refused(capsys, ["cost", "modal"], "costs are available for conddiff_amo, direct, pcnet_m only, not for modal")
    refused(capsys, ["cost", "mixed_context"], "not for mixed_context")


def test_draw_and_ceiling_accept_a_data_set_and_its_folder(tmp_path, capsys):
    root = coco_amodal_world(tmp_path / "mine")
    picture = tmp_path / "look.png"
    assert main(["data", "draw", "coco_amodal", str(root), "--count", "2", "--to", str(picture)]) == 0
    assert picture.is_file() and "2 objects" in capsys.readouterr().out
    assert main(["data", "ceiling", "coco_amodal", str(root), "num_objects=2", "--split", "val"]) == 0
    assert "coco_amodal: 2 objects" in capsys.readouterr().out
    refused(capsys, ["data", "draw", "coco_amodal", str(tmp_path / "absent")], "absent")


def test_a_closed_output_pipe_ends_the_program_silently():
    program = [sys.executable, "-m", "amodalseg"]
    for unbuffered in ("", "1"):
        for arguments in (["--help"], ["models", "-v"]):
            with subprocess.Popen(
                [*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            ) as run:  # fmt: skip
                run.stdout.close()  # before anything is printed
                error = run.stderr.read().decode()
            # argparse ignores a closed pipe if the output is not buffered
            assert error == "" and run.returncode in ({141} if arguments[0] == "models" else {0, 141}), error


def test_other_broken_pipes_are_not_hidden(monkeypatch):
    def broken(_):
        raise BrokenPipeError("a worker died")

    monkeypatch.setattr("amodalseg.cli.commands._models", broken)
    with pytest.raises(BrokenPipeError, match="a worker died"):
        main(["models"])


def test_only_the_first_process_prints_and_all_report_errors(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert main(["models"]) == 0
    assert capsys.readouterr().out == ""
    refused(capsys, ["cost", "modal"], "not for modal")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert main(["models"]) == 0
    assert "modal" in capsys.readouterr().out


def test_a_run_that_completes_a_folder_reports_the_written_masks(tmp_path, capsys):
    photo, mask = np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50), np.uint8)
    mask[5:20, 5:30] = 255
    for name in ("photos/a.jpg", "photos/b.jpg", "masks/a.png", "masks/b_1.png", "masks/b_2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), photo if name.startswith("photos") else mask)
    command = ["predict", "convex_hull", "--images", str(tmp_path / "photos"), "--masks", str(tmp_path / "masks")]
    out, pictures = tmp_path / "out", tmp_path / "pictures"
    assert main([*command, "--out", str(out), "--overlay", str(pictures)]) == 0
    assert f"3 of 3 masks are written to {out}, the photos with them in {pictures}\n" in capsys.readouterr().out
    (out / "a.png").unlink()
    assert main([*command, "--out", str(out)]) == 0
    assert f"1 of 3 masks are written to {out}\n" in capsys.readouterr().out


def test_compare_two_models_of_the_evaluation_above(tmp_path, capsys):
    out = str(tmp_path / "eval")
    options = ["data.num_objects=4", "data.size=64", "trainer.progress=false", "report.html=false"]
    assert main(["eval", "synthetic", "models=[modal,convex_hull]", f"out={out}", *options]) == 0
    assert main(["compare", out, "--model-a", "modal", "--model-b", "convex_hull"]) == 0
    assert "A: modal" in capsys.readouterr().out and (tmp_path / "eval/compare/compare.html").is_file()
    refused(capsys, ["compare", out], "several models", "--model-a")


def own_photos(tmp_path, count=5):
    """Arguments of the documented command, with a short run."""
    annotations, photos = coco_world(tmp_path / "own", count)
    small = [option for option in SMALL if not option.startswith(("data.", "val.size"))]
    return [f"data.annotations=[{annotations}]", f"data.images=[{photos}]", "data.max_side=128", *small,
            "data.occlude.min_area=0.001", "trainer.max_steps=2"]  # fmt: skip


def test_training_on_your_own_photos_needs_no_other_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AMODALSEG_DATA", str(tmp_path / "nothing"))
    out = tmp_path / "run"
    assert main(["train", "photos_tiny", *own_photos(tmp_path), "optim.early_size=null", f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "2 of 5 photos are held out of training for validation" in printed and "2 steps done" in printed
    config = load_config(TrainConfig, out / "config.yaml")
    assert (config.data.photos, config.val.photos, config.val.name) == ("most", "held_out", "coco_occlude")
    assert config.val.annotations == config.data.annotations and config.data.hosts == {}
    seen = {source.key.split("/")[2] for source in open_source(config.data).records}
    held = {source.key.split("/")[2] for source in open_source(config.val).occluder.records}
    assert len(seen) == 3 and len(held) == 2 and not seen & held
    assert main(["train", str(out / "config.yaml")]) == 0  # the written configuration describes the same run
    assert "already finished" in capsys.readouterr().out


def test_a_named_validation_set_is_used_and_one_photo_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AMODALSEG_DATA", str(tmp_path / "nothing"))
    arguments, (annotations, photos) = own_photos(tmp_path), coco_world(tmp_path / "other")
    named = [f"val.annotations=[{annotations}]", f"val.images=[{photos}]"]
    config = load_config(TrainConfig, "photos_tiny", [*arguments, *named, "out=x"])
    assert config.val.annotations == [str(annotations)] and config.data.photos == config.val.photos == "all"
    untouched = load_config(TrainConfig, "photos_tiny", ["out=x", "data.num_objects=5"])
    assert untouched.val.photos == "all" and untouched.data.hosts and "ecssd" in untouched.val.annotations[0]
    drawn = load_config(TrainConfig, "synthetic_tiny", ["data.name=coco_occlude", *arguments[:2], "val.size=64"])
    assert drawn.val.name == "synthetic" and drawn.data.photos == "all"  # it needs no photos
    mine = tmp_path / "mine.yaml"  # a user's experiment that names no validation set
    mine.write_text("model: {name: direct}\nout: x\ndata: {name: scenes}\n")
    found = load_config(TrainConfig, mine, arguments[:2])
    assert (found.data.photos, found.val.photos, found.val.name) == ("most", "held_out", "coco_occlude")
    refused(capsys, ["train", "photos_tiny", *own_photos(tmp_path / "one", 1), f"out={tmp_path / 'x'}"],
            "a single photo cannot be split", "val.annotations")  # fmt: skip


def test_from_labelme_to_a_trained_and_scored_model(tmp_path, capsys):
    for split, seed in (("train", 0), ("val", 1)):
        drawn = labelme_world(tmp_path / split, seed=seed)
        convert = ["data", "convert", "labelme", str(drawn), "--split", split, "--out", str(tmp_path / "mine")]
        assert main(convert) == 0
    assert main(["data", "check", "coco_amodal", str(tmp_path / "mine")]) in (0, 1)
    root, run = f"data.root={tmp_path / 'mine'}", tmp_path / "run"
    options = ["trainer.progress=false", "trainer.accelerator=cpu", "trainer.devices=1", "loader.num_workers=0"]
    short = ["trainer.max_steps=1", "loader.batch_size=2", "model.sampler.steps=1"]
    assert main(["train", "coco_amodal_lite", root, *options, *short, f"out={run}"]) == 0
    assert "1 steps done" in capsys.readouterr().out
    config = load_config(TrainConfig, run / "config.yaml")
    assert config.val.root == config.data.root == str(tmp_path / "mine") and config.init == "conddiff_amo_lite"
    models = f"models=[modal,{run}]"
    assert main(["eval", "coco_amodal", root, models, *options, "report.html=false", f"out={tmp_path / 'e'}"]) == 0
    assert str(run) in capsys.readouterr().out


def test_unreachable_weights_are_reported_immediately(tmp_path, monkeypatch, capsys):
    class Session:
        def head(self, url, timeout):
            raise ConnectionError("no network")

    def tried(*_, pretrained, **__):
        raise AssertionError("the hub's client would try for most of a minute")

    monkeypatch.setattr(reach, "get_session", Session)
    monkeypatch.setattr(reach, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("timm.create_model", tried)
    root = cocoa_world(tmp_path / "cocoa")
    data = [f"{section}.{key}" for section in ("data", "val") for key in (f"root={root}", "split=val")]
    cpu = ["trainer.accelerator=cpu", "trainer.devices=1"]
    refused(capsys, ["train", "table4/a", *data, *cpu, f"out={tmp_path / 'a'}"],
            "pvt_v2_b4 cannot be fetched (ConnectionError)", "model.pcn.pretrained=false")  # fmt: skip
    assert not (tmp_path / "a").exists()


def test_weights_in_the_cache_need_no_network(monkeypatch):
    monkeypatch.setattr(reach, "get_session", None)
    monkeypatch.setattr(reach, "try_to_load_from_cache", lambda repository, name: "/cache/pytorch_model.bin")
    assert reach.why_out_of_reach("timm/pvt_v2_b0.in1k") is None


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (["eval", "cocoa"], "annotations/COCO_amodal_val2014.json, val2014"),
        (["eval", "kins"], "update_test_2020.json"),
        (["train", "conddiff_amo_pix2gestalt", "model.pcn.pretrained=false"], "pix2gestalt"),
        (["eval", "fishbowl"], "test_data"),
        (["data", "stats", "coco_amodal", "ROOT/coco_amodal"], "annotations/val_modal.json"),
    ],
)
def test_a_missing_published_set_is_reported_with_expected_files_and_a_command(
    tmp_path, monkeypatch, capsys, command, part
):
    monkeypatch.setenv("AMODALSEG_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    name = command[-1].rpartition("/")[2] if command[0] == "data" else part if "pix" in part else command[1]
    given = [word.replace("ROOT", str(tmp_path)) for word in command]
    refused(capsys, given, part, f"'amodalseg data check {name} {tmp_path / name}'")


def test_the_main_table_of_a_report_fits_into_1300_pixels(tmp_path):
    header = ["model", *(f"{protocol} · {name}" for protocol, name in [*table.MAIN, *table.PICTURES]), "objects",
              "with occlusion", "seconds / object, median", "peak memory, MB", "evaluations / object"]  # fmt: skip
    figures, plain = [table.Cell("75.25", "[73.95 – 76.25]", True)] * 7, [table.Cell("12,345")] * 5
    line = [table.Cell("outputs/conddiff_amo_cocoa"), *figures, *plain]
    made = table.to_html(table.Table("cocoa / val", header, [line]))
    assert "per_<wbr>object_<wbr>occluded" in made  # long names may be broken
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium, which measures a page")
    script = "s=document.querySelector('.scroll');document.title='wider by '+(s.scrollWidth-s.clientWidth)"
    page = tmp_path / "page.html"
    page.write_text(html_page("", f"<div class=scroll>{made}</div><script>{script}</script>"))
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1300,900", "--dump-dom"]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert "<title>wider by 0</title>" in done.stdout, done.stdout[:300]
