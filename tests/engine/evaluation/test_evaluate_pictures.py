"""Evaluation of models that generate pictures: rows, report, resuming, samples, and models described by files."""

import contextlib
import json
from typing import ClassVar

import numpy as np
import pytest

from amodalseg import evaluate, models, read_dataset
from amodalseg.cli import main
from amodalseg.engine.evaluation import evaluate as evaluating
from amodalseg.engine.evaluation import prediction_store
from amodalseg.metrics.counts import read_rows
from amodalseg.models.fingerprint import source_fingerprint
from amodalseg.models.geometric.model import ConvexHull, FilledBox, ModalCopy
from amodalseg.models.inpainting.backends import word_files
from amodalseg.types import stable_seed
from tests.engine.journeys import ROOT, read_csv
from tests.refusals import refused


class Painter(ConvexHull):
    """Generates its completion in one random grey, like a sampling model."""

    name = "painter"
    stochastic = True
    asked: ClassVar[list[int]] = []

    def predict_batch(self, queries, *, num_samples=1, steps=None):
        self.asked.append(num_samples)
        found = []
        for query, prediction in zip(queries, super().predict_batch(queries), strict=True):
            prediction.image, prediction.evaluations = query.image.copy(), 20 * num_samples
            prediction.image[prediction.occluded] = stable_seed(query.seed) % 256
            found.append(prediction)
        return found


@pytest.fixture(autouse=True)
def painter(monkeypatch):
    monkeypatch.setitem(models.MODELS, "painter", Painter)
    monkeypatch.setattr(Painter, "asked", [])


def arguments(out, *more):
    return ["eval", str(ROOT / "configs/eval/synthetic.yaml"), f"out={out}", "data.num_objects=7", "data.size=64",
            "loader.batch_size=2", "trainer.progress=false", "trainer.accelerator=cpu", "report.pictures=1",
            "models=[modal,painter]", *more]  # fmt: skip


def comparable(folder):
    rows = read_csv(folder / "objects.csv")
    for row in rows:
        row.pop("seconds"), row.pop("peak_memory")
    return rows, (folder / "predictions.json").read_bytes(), (folder / "metrics.json").read_text()


def test_rows_and_report_contain_generated_pictures(tmp_path):
    out = tmp_path / "out"
    assert main(arguments(out)) == 0
    rows = {name: [r for r in read_rows(out / "objects.csv") if r["model"] == name] for name in ("modal", "painter")}
    records = {r.key: r for r in read_dataset("synthetic", num_objects=7, size=64, split="test")}
    for row, record in zip(rows["painter"], records.values(), strict=True):
        hidden = record.amodal & ~record.modal
        prediction = ConvexHull().predict(record.image, record.modal).amodal
        picture = record.image.astype(int)
        picture[prediction & ~record.modal] = stable_seed(stable_seed(0, record.key)) % 256
        error = (picture - record.whole_rgb)[hidden]
        assert (row["hidden_pixels"], row["hidden_absolute"]) == (hidden.sum(), np.abs(error).sum())
        assert row["hidden_squared"] == (error**2).sum() and row["evaluations"] == 20
    assert {row["hidden_pixels"] for row in rows["modal"]} == {row["evaluations"] for row in rows["modal"]} == {0}
    modal, painter = json.loads((out / "metrics.json").read_text())["results"]
    assert modal["scores"]["appearance"]["psnr"] is None and 0 < painter["scores"]["appearance"]["psnr"] < 59
    report = (out / "report.md").read_text()
    for part in ("appearance · psnr, dB", "peak memory, MB", "evaluations / object", "seconds / object, median"):
        assert part in report
    assert "photo with the completion pasted in" in (out / "report.html").read_text()
    assert {path.name for path in out.iterdir()} == {
        "answers", "config.yaml", "objects.csv", "metrics.json", "predictions.json", "report.md", "report.html"
    }  # fmt: skip


@pytest.mark.parametrize("kill", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("batches", [0, 1, 3])
def test_an_interrupted_evaluation_resumes_within_a_data_set(tmp_path, monkeypatch, capsys, kill, batches):
    monkeypatch.setattr(
        prediction_store, "PART_SECONDS", 0.0 if batches == 3 else 1000.0
    )  # immediately, or when it is killed
    more = ["models=[painter]", "report.html=false"]
    assert main(arguments(tmp_path / "whole", *more)) == 0
    out, asked, original = tmp_path / "out", [], Painter.predict_batch

    def dying(self, queries, **options):
        if len(asked) == batches:
            raise kill
        asked.extend([None])
        return original(self, queries, **options)

    monkeypatch.setattr(Painter, "predict_batch", dying)
    with contextlib.suppress(SystemExit):
        main(arguments(out, *more))
    parts = list(out.glob("answers/*/*.json"))
    assert len(parts) == (3 if batches == 3 else min(1, batches)) and not (out / "objects.csv").exists()
    for part in parts[:1]:
        part.with_name(f".{part.name}.7.part").write_text('{"stamp": [')  # truncated by the kill

    def counted(self, queries, **options):
        asked.append(len(queries))
        return original(self, queries, **options)

    monkeypatch.setattr(Painter, "predict_batch", counted)
    capsys.readouterr()
    assert main(arguments(out, *more)) == 0
    printed = capsys.readouterr().out
    assert (f"painter on synthetic: {2 * batches} of 7 objects are already predicted" in printed) == (batches > 0)
    assert asked[batches:] == [2, 2, 2, 1][batches:], "nothing is asked twice, and the batches are the same"
    assert comparable(out) == comparable(tmp_path / "whole")
    assert all(path.suffix == ".json" and path.is_file() for path in (out / "answers").iterdir())


def test_parts_of_other_weights_are_not_used(tmp_path, capsys):
    records = read_dataset("synthetic", num_objects=3, size=48)
    dataset = evaluating.EvaluationSet(evaluating.RecordList(records), 0)
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"one")
    writer = prediction_store.PredictionStore(tmp_path).write_parts(str(weights), "drawn", dataset)
    numbered = list(enumerate(evaluating.collect_predictions(Painter(), dataset, 2)))
    assert all(prediction.thumbnail is not None for _, prediction in numbered)
    writer.add(numbered[1:])
    writer.write()
    assert prediction_store.PredictionStore(tmp_path).load_parts(str(weights), "drawn", dataset) == numbered[1:]
    weights.write_bytes(b"two")
    assert prediction_store.PredictionStore(tmp_path).load_parts(str(weights), "drawn", dataset) == []
    assert "have changed since" in capsys.readouterr().out and not list(tmp_path.glob("answers/*/*"))


def test_num_samples_reaches_every_model_with_a_warning_for_deterministic_ones(tmp_path, capsys):
    assert main(arguments(tmp_path / "out", "num_samples=3", "report.html=false")) == 0
    assert set(Painter.asked) == {3} and "'modal' is deterministic" in capsys.readouterr().err
    rows = read_rows(tmp_path / "out/objects.csv")
    assert {row["evaluations"] for row in rows if row["model"] == "painter"} == {60}
    assert main(arguments(tmp_path / "bad", "num_samples=0")) == 2
    assert "invalid value for num_samples: 0 " in capsys.readouterr().err
    evaluate(Painter(), read_dataset("synthetic", num_objects=1, size=48), num_samples=2)
    assert Painter.asked[-1] == 2


def test_conddiff_amo_counts_an_evaluation_per_step_and_sample():
    model = models.load_model("conddiff_amo_tiny", "cpu")
    model.override({"sampler": {"steps": 2}})
    record = read_dataset("synthetic", num_objects=1, size=48)[0]
    prediction = model.predict(record.image, record.modal)
    assert prediction.evaluations == 2 and prediction.image is None and prediction.canvas is None
    stack = model.predict(record.image, np.stack([record.modal] * 2), num_samples=3, steps=1)
    assert (stack.evaluations, stack[1].evaluations) == (6, 3)


def test_model_files_are_named_by_their_stem(tmp_path, monkeypatch, capsys):
    for folder, text in (("a", "model: {name: conddiff_amo}"), ("b", "model: {name: conddiff_amo, dn: {dim: 32}}")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "first.yaml").write_text(text)
    (tmp_path / "a/second.yml").write_text("base: first.yaml")
    first, second = tmp_path / "a/first.yaml", tmp_path / "a/second.yml"
    opened = []

    def load(source, device, override):
        opened.append(source)
        return FilledBox() if source.endswith("first.yaml") else ModalCopy()

    monkeypatch.setattr(evaluating, "load_model", load)
    out = tmp_path / "out"
    assert main(arguments(out, f"models=[{first},{second}]", "report.html=false")) == 0
    assert opened == [str(first), str(second)]
    assert list(dict.fromkeys(row["model"] for row in read_rows(out / "objects.csv"))) == ["first", "second"]
    assert "| first |" in (out / "report.md").read_text()
    digests = {source_fingerprint(str(path)) for path in (first, second, tmp_path / "b/first.yaml")}
    assert len(digests) == 2, "what a file describes counts, with its bases, not how it is written"


def test_model_files_of_equal_stem_are_named_with_their_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, name in (("a", "telea"), ("b", "noise_fill"), ("c/a", "telea")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "sd2.yaml").write_text(f"model: {{name: {name}, window: {{size: 32}}}}")
    (tmp_path / "a/modal.yaml").write_text("model: {name: telea}")
    names = evaluating._names(["a/sd2.yaml", "modal", "b/../b/sd2.yaml", "a/modal.yaml", "c/mine.yaml"])
    assert names == {
        "a_sd2": "a/sd2.yaml", "modal": "modal", "b_sd2": "b/../b/sd2.yaml", "a_modal": "a/modal.yaml",
        "mine": "c/mine.yaml",
    }  # fmt: skip
    assert main(arguments(tmp_path / "out", "models=[a/sd2.yaml,b/sd2.yaml]", "report.html=false")) == 0
    assert list(dict.fromkeys(row["model"] for row in read_rows(tmp_path / "out/objects.csv"))) == ["a_sd2", "b_sd2"]
    assert main(["compare", "out", "out", "--model-a", "a_sd2", "--model-b", "b_sd2"]) == 0
    assert "a_sd2" in capsys.readouterr().out
    for models_ in ("a/sd2.yaml,c/a/sd2.yaml", "a/sd2.yaml,b/sd2.yaml,c/a/sd2.yaml", "a/sd2.yaml,./a/sd2.yaml"):
        refused(
            capsys, arguments(tmp_path / "two", f"models=[{models_}]"), "would both be called 'a_sd2'; rename a file"
        )
    monkeypatch.chdir(tmp_path / "a")
    assert list(evaluating._names(["sd2.yaml", "../b/sd2.yaml"])) == ["a_sd2", "b_sd2"]


def test_override_reaches_controls_and_the_steps_curve_leaves_them_out(tmp_path, monkeypatch, capsys):
    opened, load = [], evaluating.load_model
    monkeypatch.setattr(evaluating, "load_model", lambda *given: opened.append(load(*given)) or opened[-1])
    more = ["models=[telea,noise_fill,modal]", "override.window.size=32", "override.sampler.steps=3",
            "override.background=white"]  # fmt: skip
    assert main(arguments(tmp_path / "out", *more, "report.steps_curve=[1,2]")) == 0
    assert [(model.config.window.size, model.config.background) for model in opened[:2]] == [(32, "white")] * 2
    said = capsys.readouterr().err
    assert "override has no effect on 'modal', which has none of these options" in said
    assert "telea" not in said and "noise_fill" not in said
    assert "by number of sampling steps" not in (tmp_path / "out/report.html").read_text()
    off = ["models=[noise_fill]", "override.everywhere=false", "report.html=false"]
    assert main(arguments(tmp_path / "off", *off)) == 0
    assert "no effect" not in capsys.readouterr().err
    more = ["models=[telea]", "override.sampler.steps=3", "report.html=false"]
    assert main(arguments(tmp_path / "none", *more)) == 0
    assert "override has no effect on 'telea'" in capsys.readouterr().err


def test_weights_of_the_shipped_prior_are_part_of_the_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setattr(word_files, "CHECKPOINTS", [tmp_path])
    (tmp_path / "model.yaml").write_text("model: {name: diffoom, backend: {name: word_prior}}")
    found = [source_fingerprint(str(tmp_path / "model.yaml"))]
    (tmp_path / "word_prior/unet").mkdir(parents=True)
    (tmp_path / "word_prior/words.json").write_text("{}")
    for content in (b"one", b"two"):
        (tmp_path / "word_prior/unet/weights.safetensors").write_bytes(content)
        found.append(source_fingerprint(str(tmp_path / "model.yaml")))
    assert len(set(found)) == 3


def test_weights_named_by_an_override_are_part_of_the_fingerprint(tmp_path):
    (tmp_path / "prior/unet").mkdir(parents=True)
    found = [source_fingerprint("mixed_context")]
    for content in (b"one", b"two"):
        (tmp_path / "prior/unet/weights.safetensors").write_bytes(content)
        found.append(source_fingerprint("mixed_context", {"backend": {"name": str(tmp_path / "prior")}}))
    assert len(set(found)) == 3
    assert source_fingerprint("telea", {"backend": {"name": "sdxl"}}) == source_fingerprint("telea")


def test_weights_in_a_folder_named_by_a_file_are_part_of_the_fingerprint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.yaml").write_text("model: {name: conddiff_amo}")
    before = source_fingerprint("model.yaml")
    (tmp_path / "pvt_v2_b4/unet").mkdir(parents=True)  # a folder whose name is the value of an option
    assert source_fingerprint("model.yaml") == before
    (tmp_path / "pvt_v2_b4/unet/weights.safetensors").write_bytes(b"one")
    one = source_fingerprint("model.yaml")
    (tmp_path / "pvt_v2_b4/unet/weights.safetensors").write_bytes(b"two")
    assert len({before, one, source_fingerprint("model.yaml")}) == 3
