"""Small runs of all commands that write, as processes to kill, pause or run out of disk, and checks of their output.

``kills.py`` runs campaigns with them, ``tests/faults`` fixed cases.
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed

from amodalseg.cli import main  # noqa: E402

PRELOAD = [
    "benchmarks.faults", "amodalseg.engine.training.train", "amodalseg.engine.evaluation.evaluate",
    "amodalseg.engine.prediction.predict_coco", "amodalseg.data.pack.convert", "amodalseg.data.pack.shard_writer",
    "amodalseg.models.network_model", "amodalseg.models.conddiff_amo.model", "amodalseg.models.conddiff_amo.module",
    "amodalseg.report.build", "amodalseg.export.write", "onnxruntime", "onnxscript", "amodalseg.engine.prediction.move",
    "amodalseg.engine.prediction.edit", "amodalseg.models.inpainting.methods.mrgd",
    "diffusers.models.unets.unet_2d_condition", "diffusers.models.attention_processor",
]  # fmt: skip
"""Imports of all commands, loaded once in a server from which each command's process is forked."""
WRITING = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
NETWORK = ["model.window.size=32", "model.dn.dim=16", "model.sampler.steps=1"]
TRAIN = [
    *NETWORK, "data.num_objects=8", "data.size=64", "val.num_objects=2", "val.size=64", "loader.batch_size=2",
    "loader.num_workers=0", "trainer.max_steps=4", "optim.warmup_steps=2", "optim.ema=0.9", "checkpoint.every_steps=1",
    "checkpoint.val_every_steps=2", "log.every_steps=2", "log.pictures=1", "trainer.progress=false",
    "trainer.accelerator=cpu", "trainer.devices=1",
]  # fmt: skip
EVAL = [
    "models=[modal,convex_hull]", "data.num_objects=6", "data.size=64", "loader.batch_size=2", "trainer.progress=false",
    "trainer.accelerator=cpu", "report.html=false",
]  # fmt: skip
EDIT = ["size=[16,16]", "model.sampler.steps=1", "model.inversion.updates=1", "device=cpu"]
OF_THE_RUN = ("seconds", "peak_memory")
"""Columns of ``objects.csv``, and keys of ``edit.json``, that differ between any two runs."""
MADE_ANEW = ("metrics", "answers")
"""Folders whose files depend on how often a run was started: logs, and predictions with their peak memory."""


def commands(inputs: Path, quick_export: bool = False) -> dict[str, Callable[[Path], list[str]]]:
    """The arguments of each command for a folder that it may write to.

    Args:
        inputs: from ``make_inputs``.
        quick_export: ``export`` writes a prepared graph, because tracing one takes longer than everything else.
    """
    quick = ["--quick"] if quick_export else []
    configs, coco, world = ROOT / "configs", inputs / "coco.json", ["synthetic", "num_objects=8", "size=64"]
    return {
        "train": lambda to: ["train", str(configs / "experiment/synthetic_tiny.yaml"), f"out={to}/run", *TRAIN],
        "eval": lambda to: ["eval", str(configs / "eval/synthetic.yaml"), f"out={to}/eval", *EVAL],
        "predict": lambda to: [
            "predict", "convex_hull", "--coco", str(coco), "--images", str(inputs / "photos"), "--out", f"{to}/o.json",
            "--overlay", f"{to}/drawn", "--batch-size", "1",
        ],
        "masks": lambda to: [
            "predict", "convex_hull", "--images", str(inputs / "photos"), "--masks", str(inputs / "masks"),
            "--out", f"{to}/masks", "--batch-size", "1",
        ],
        "part": lambda to: [
            "predict", "convex_hull", "--coco", str(coco), "--images", str(inputs / "photos"), "--out", f"{to}/o.json",
            "--shard", "1/2", "--batch-size", "1",
        ],
        "scene": lambda to: [
            "scene", "convex_hull", "--coco", str(coco), "--images", str(inputs / "photos"), "--out", f"{to}/scenes",
        ],
        "move": lambda to: [
            "move", "convex_hull", "--image", str(inputs / "photos/0.png"), "--mask", str(inputs / "masks/0.png"),
            "--to", "20,20", "--out", f"{to}/moved.png", "--overlay", f"{to}/drawn",
        ],
        "edit": lambda to: ["edit", str(configs / "edit/add.yaml"), f"out={to}/edit", *EDIT],
        "convert": lambda to: ["data", "convert", *world, "--out", f"{to}/data"],
        "shard": lambda to: ["data", "shard", *world, "--out", f"{to}/shards", "--size", "20"],
        "export": lambda to: ["export", str(inputs / "model.safetensors"), "--out", f"{to}/model.onnx", *quick],
    }  # fmt: skip


def make_inputs(folder: Path) -> Path:
    """Write photos, masks, a COCO file and a model with random weights."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for name in ("photos", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(4):
        cv2.imwrite(f"{folder}/photos/{number}.png", rng.integers(0, 255, (40, 48, 3), np.uint8))
        mask = np.zeros((40, 48), np.uint8)
        mask[8:30, 6 + number : 30] = mask[20:36, 20:40] = 255
        cv2.imwrite(f"{folder}/masks/{number}.png", mask)
        images.append({"id": number, "file_name": f"{number}.png", "height": 40, "width": 48})
        ring = [6 + number, 8, 30, 8, 30, 20, 12, 30]
        annotations.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [ring]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "coco.json").write_text(json.dumps(content))
    write_model(folder / "model.safetensors")
    write_graph(folder / "quick.onnx")
    return folder


def write_model(path: Path) -> None:
    """Write a small CondDiff-AMO with random weights."""
    import torch

    from amodalseg.config.schema import AFGConfig, CondDiffAMOConfig, DNConfig, PCNConfig, SamplerConfig, WindowConfig
    from amodalseg.models.conddiff_amo.model import CondDiffAMO

    torch.manual_seed(0)
    pyramid = PCNConfig(backbone="pvt_v2_b0", adapter_init="random")
    config = CondDiffAMOConfig(
        window=WindowConfig(size=32), pcn=pyramid, dn=DNConfig(dim=16), afg=AFGConfig(kernel=1),
        sampler=SamplerConfig(steps=1),
    )  # fmt: skip
    CondDiffAMO(config).save(path, {})


def write_graph(path: Path) -> None:
    """Write a file like export does, with a small graph instead of a sampler."""
    import onnx
    from onnx import TensorProto, helper

    from amodalseg.config.load import to_dict
    from amodalseg.config.schema import CondDiffAMOConfig, SamplerConfig, WindowConfig
    from amodalseg.export.runtime import FORMAT

    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 3, 1, 1], [0.1, 0.2, 0.3])
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT), helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("ReduceMean", ["noise"], ["n"], keepdims=0, axes=[0]),
        helper.make_node("Add", ["y", "n"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["probability"]), helper.make_node("Identity", ["modal"], ["mask"]),
    ]  # fmt: skip
    shape = ["b", 1, 32, 32]
    given = [("image", TensorProto.UINT8, ["b", 3, 32, 32]), ("modal", TensorProto.UINT8, shape),
             ("noise", TensorProto.FLOAT, [1, *shape])]  # fmt: skip
    taken = [("probability", TensorProto.FLOAT, shape), ("mask", TensorProto.UINT8, shape)]
    infos = [[helper.make_tensor_value_info(*one) for one in side] for side in (given, taken)]
    graph = helper.make_graph(nodes, "sampler", *infos, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    config = CondDiffAMOConfig(window=WindowConfig(size=32), sampler=SamplerConfig(steps=1))
    about = {"format": FORMAT, "model": json.dumps(to_dict(config)), "about": "{}"}
    helper.set_model_props(model, about)
    onnx.save(model, path)


@dataclass
class Disturbance:
    """A disturbance of a command.

    Attributes:
        kill_at: number of the file operation in its folder before which it is killed.
        pause_at: number of the one before which it creates ``.paused`` and waits for ``.go``, both next to its folder.
        limit: maximum bytes of a file, which simulates a full disk.
    """

    kill_at: int | None = None
    pause_at: int | None = None
    limit: int | None = None


def start(arguments: list[str], folder: Path, disturbance: Disturbance | None = None) -> Any:
    """Start a command in a separate process. It writes ``.log`` and, at its end, ``.operations`` next to its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return forked(_child, arguments, folder, disturbance or Disturbance())


def forked(call: Callable[..., None], *arguments: Any) -> Any:
    """Start a call in a process forked from a server with all imports done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=call, args=arguments)
    process.start()
    return process


def run(arguments: list[str], folder: Path, disturbance: Disturbance | None = None) -> int:
    """Run a command to its end. Returns: the exit code, -9 if it was killed."""
    process = start(arguments, folder, disturbance)
    process.join()
    return int(process.exitcode)


def log_of(folder: Path) -> str:
    """The output of the last command."""
    return Path(f"{folder}.log").read_text(errors="replace")


def says_done(log: str) -> bool:
    """Whether a command was refused because all its outputs exist, i.e. it had already finished when it was killed."""
    said = ("exists; give", "exists; remove", "already holds a packed data set", "is done: ")
    return any(text in log for text in said)


def _child(arguments: list[str], folder: Path, disturbance: Disturbance) -> None:
    log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    writer = None
    if disturbance.limit is not None:  # through a process without the limit
        writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log)
        assert writer.stdin is not None
        log = writer.stdin.fileno()
    os.dup2(log, 1)
    os.dup2(log, 2)
    if arguments[-1] == "--quick":
        _use_quick_export(arguments)
    sys.argv = ["amodalseg", *arguments]
    if disturbance.limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (disturbance.limit, disturbance.limit))
    _write_often()
    operations = [0]

    def count(event: str, details: tuple[Any, ...]) -> None:
        if event not in WRITING or not isinstance(details[0], (str, os.PathLike)):
            return
        if event == "open" and not (isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if not os.fspath(details[0]).startswith(f"{folder}/"):
            return
        if operations[0] == disturbance.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if operations[0] == disturbance.pause_at:
            os.mkdir(f"{folder}.paused")
            while not Path(f"{folder}.go").exists():
                time.sleep(0.01)
        operations[0] += 1

    sys.addaudithook(count)
    code = main(arguments)
    sys.stdout.flush()
    if writer is not None:
        os.close(1)
        os.close(2)
        writer.communicate()
    else:
        seen = operations[0]
        Path(f"{folder}.operations").write_text(str(seen))
    os._exit(code)


def _write_often() -> None:
    """Write small outputs in as many files as large ones."""
    from amodalseg.data.pack import shard_writer
    from amodalseg.engine.evaluation import prediction_store

    prediction_store.PART_SECONDS = 0
    shard_writer.MB = 1024


def _use_quick_export(arguments: list[str]) -> None:
    """Let export write ``quick.onnx`` from next to the model, and compare nothing."""
    from amodalseg.export import write

    arguments.remove("--quick")
    content = Path(arguments[1]).with_name("quick.onnx").read_bytes()
    stands: Any = write
    stands.trace = stands.VerificationSet = lambda *_: None
    stands.write_onnx = lambda _, path, __: path.write_bytes(content)
    stands.OnnxPredictor = type("Stand", (), {"__init__": lambda self, path: None, "run": None})
    stands.compare = lambda name, *_: f"{name}: as PyTorch has it"


def files_of(folder: Path) -> dict[str, Path]:
    """Files written by a command, by path relative to its folder, without those that every start rewrites."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {name.as_posix(): path for name, path in found.items() if not set(MADE_ANEW) & set(name.parts)}


def differences(folder: Path, undisturbed: Path) -> list[str]:
    """Files that a disturbed command leaves in addition, lacks, or has with different content."""
    found, expected = files_of(folder), files_of(undisturbed)
    texts = [f"left over: {name}" for name in sorted(found.keys() - expected.keys())]
    texts += [f"missing: {name}" for name in sorted(expected.keys() - found.keys())]
    leftovers = [path for path in folder.rglob(".*") if path.name.endswith(".part")]
    texts += [f"left over: {path.relative_to(folder)}" for path in leftovers if set(MADE_ANEW) & set(path.parts)]
    for name in sorted(found.keys() & expected.keys()):
        if _content(found[name], folder) != _content(expected[name], undisturbed):
            texts.append(f"differs: {name}")
    return texts


def _content(path: Path, folder: Path) -> Any:
    """A file's content without its folder's path, times and memory, which differ from run to run."""
    if path.suffix == ".ckpt":
        return _plain(_checkpoint(path))
    if path.suffix == ".csv":
        with path.open() as file:
            return [{key: row[key] for key in row if key not in OF_THE_RUN} for row in csv.DictReader(file)]
    if path.name == "edit.json":
        return {key: value for key, value in json.loads(path.read_bytes()).items() if key not in OF_THE_RUN}
    content = path.read_bytes().replace(str(folder).encode(), b"FOLDER")
    if path.name in ("metrics.json", "report.md"):  # these also contain memory figures
        return len(content) > 0
    if path.suffix == ".safetensors":  # the header, whose length is in the first eight bytes, contains the path
        whole = path.read_bytes()
        return whole[8 + int.from_bytes(whole[:8], "little") :]
    return content


def _checkpoint(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=True)


def _plain(node: Any, key: str = "") -> Any:
    """Tensors as bytes, comparable with ``==``, and without times."""
    import torch

    if isinstance(node, torch.Tensor):
        return node.numpy().tobytes()
    if isinstance(node, dict):
        return {name: _plain(value, str(name)) for name, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_plain(value) for value in node]
    return None if isinstance(node, str) else node


def half_files(folder: Path) -> list[str]:
    """Files under their final names that cannot be read completely."""
    bad = []
    for name, path in files_of(folder).items():
        if path.name.startswith(".") or name.endswith(".jsonl"):
            continue
        try:
            _read_whole(path)
        except Exception as error:
            bad.append(f"{name}: {type(error).__name__} {error}"[:200])
    return bad


def _read_whole(path: Path) -> None:
    data = path.read_bytes()
    if path.suffix == ".json":
        head, _, body = data.partition(b"\n")  # of unfinished shards, after a checksum
        json.loads(body if len(head) == 32 else data)
    elif path.suffix == ".png":
        assert data.endswith(b"IEND\xaeB`\x82") and cv2.imdecode(np.frombuffer(data, np.uint8), 1) is not None
    elif path.suffix == ".ckpt":
        _checkpoint(path)
    elif path.suffix == ".safetensors":
        from safetensors.numpy import load

        load(data)
    elif path.suffix == ".onnx":
        import onnx

        onnx.checker.check_model(onnx.load_from_string(data))
    elif path.suffix == ".tar":
        with tarfile.open(path) as tar:
            assert all(len(tar.extractfile(member).read()) == member.size for member in tar)  # type: ignore[union-attr]
    elif path.suffix == ".npy":
        np.load(path)
    else:
        assert data, "empty"
