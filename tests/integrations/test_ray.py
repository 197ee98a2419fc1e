"""On a real local Ray: rows equal those of the serial run, even if an actor is killed; failures are rows too."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from amodalseg import UserError, masks
from amodalseg.cli import main
from tests.worlds import compressed, disc, photo, write_photo

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytest.importorskip("pyarrow", reason="needs the extra ray")
from amodalseg.integrations import ray as on_ray  # noqa: E402

SIZE = 48, 64


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not import tests
    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False,
             object_store_memory=100_000_000)  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place, images, entries = tmp_path_factory.mktemp("ray"), [], []
    for number in range(20):
        write_photo(place / f"images/{number}.png", photo(np.random.default_rng(number), *SIZE))
        images.append({"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]})
        entries += [
            {"id": 10 * number + i, "image_id": number, "category_id": 1, "iscrowd": int(i == 2 and number == 3),
             "segmentation": compressed(disc(*SIZE, 14 + 9 * i, 20 + number, 9, 5))}
            for i in range(3)
        ]  # fmt: skip
    (place / "images/7.png").write_bytes(b"no picture")
    images[9]["file_name"] = "../9.png"
    (place / "a.json").write_text(json.dumps({"images": images, "categories": [], "annotations": entries}))
    return place


@pytest.fixture(scope="module")
def serial(folder) -> dict:
    out = folder / "serial.json"
    arguments = [f"--coco={folder / 'a.json'}", f"--images={folder / 'images'}", f"--out={out}"]
    assert main(["predict", "conddiff_amo_lite", *arguments, "--device=cpu"]) == 1
    return {entry["id"]: entry for entry in json.loads(out.read_text())["annotations"]}


def agree(rows: list[dict], serial: dict) -> None:
    assert len({row["id"] for row in rows}) == len(rows) == 59  # all but a crowd
    for row in rows:
        key = json.loads(row["id"])
        if key // 10 in (7, 9):
            assert row["error"] and not row["counts"], row
            continue
        assert not row["error"], row
        entry = serial[key]
        found = masks.decode({"size": [row["height"], row["width"]], "counts": row["counts"].encode()})
        wanted = masks.decode(masks.from_segmentation(entry["segmentation"], *SIZE))
        assert (found == wanted).mean() >= 0.9999 and row["area"] == found.sum()


class Mortal(on_ray.Completer):
    """Kills its own process in the first call of all workers, once."""

    mark = ""

    def __call__(self, batch):
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return super().__call__(batch)
        os.kill(os.getpid(), 9)


def test_two_workers_with_one_killed_give_the_rows_of_a_serial_run(cluster, folder, serial, monkeypatch):
    mark = str(folder / "killed")
    monkeypatch.setattr(on_ray, "Completer", type("Once", (Mortal,), {"mark": mark}))
    rows = on_ray.read_coco(folder / "a.json", folder / "images").repartition(4)
    done = on_ray.complete(rows, "conddiff_amo_lite", concurrency=2, device="cpu")
    done.write_parquet(str(folder / "out"))
    assert Path(mark).exists(), "a worker was killed"
    agree(ray.data.read_parquet(str(folder / "out")).take_all(), serial)


def test_invalid_files_are_refused(folder):
    with pytest.raises(UserError, match="no image folder at"):
        on_ray.read_coco(folder / "a.json", folder / "absent")
    with pytest.raises(UserError, match=r"invalid value for crowd: all \(choose from skip, complete\)"):
        on_ray.read_coco(folder / "a.json", folder / "images", crowd="all")
