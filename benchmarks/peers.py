"""The cost of one object here and with alternatives: milliseconds and memory, measured in one run.

    python benchmarks/peers.py --threads 2
    python benchmarks/peers.py --row conddiff_amo_lite --row pix2gestalt --out peers.csv

Every row runs in a separate process, with the same drawn photos and masks. SDAmodal and pix2gestalt are represented by
their diffusion U-Nets alone, with random weights of the published shapes: time and memory do not depend on the values,
and the parts around the U-Net (encoder, decoder, CLIP) come on top. One of pix2gestalt's evaluations is measured; the
row gives the cost of all of them: 50 steps, each with and without guidance. Mask quality is not measured here.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed

from benchmarks.machine import facts, memory  # noqa: E402

SHIPPED = ("conddiff_amo_lite", "conddiff_amo_tiny")
CONTROLS = {"direct": "configs/experiment/photos_direct.yaml", "pcnet_m": "configs/experiment/photos_pcnet_m.yaml"}
PUBLISHED = {
    # Stable Diffusion 2.1 on pictures of 768 px: one evaluation, whose features the decoder reads
    "sdamodal": ({"sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20],
                  "use_linear_projection": True}, 77, 1),
    # the U-Net of Stable Diffusion's image variations on 256 px: 4 channels of the picture and 4 of the photo
    "pix2gestalt": ({"sample_size": 32, "in_channels": 8, "cross_attention_dim": 768}, 1, 100),
}  # fmt: skip
"""Name -> options of diffusers' U-Net, tokens of the condition, evaluations per object."""
ROWS = (
    *(f"{name} (exported)" for name in SHIPPED), *(f"{name} (PyTorch)" for name in SHIPPED), *CONTROLS, "convex_hull",
    "telea", *PUBLISHED,
)  # fmt: skip


def main() -> None:
    """Run every row in its own process and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", action="append", dest="rows", help="only rows that begin with this name (all)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="a csv file for the table")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measured(options.alone, options.threads, options.repeats)))
        return
    wanted = [row for row in ROWS if not options.rows or any(row.startswith(name) for name in options.rows)]
    if not wanted:
        parser.error(f"no row begins with one of these names; there are {', '.join(ROWS)}")
    print("| what | parameters, M | evaluations | ms/object | memory, GB |\n|---|---:|---:|---:|---:|")
    found = []
    for row in wanted:
        command = [sys.executable, __file__, "--alone", row, "--threads", str(options.threads)]
        done = subprocess.run([*command, "--repeats", str(options.repeats)], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            print(f"| {row} | not measured: {(done.stderr.strip().splitlines() or ['killed'])[-1]:.80} | | | |")
            continue
        found.append({"what": row, **json.loads(done.stdout.splitlines()[-1])})
        print("| {what} | {parameters:.1f} | {evaluations} | {ms:.1f} | {gb:.2f} |".format(**found[-1]), flush=True)
    if options.out and found:
        with options.out.open("w", newline="") as file:
            about = facts(options.threads)
            writer = csv.DictWriter(file, [*found[0], *about])
            writer.writeheader()
            writer.writerows(row | about for row in found)


def measured(row: str, threads: int, repeats: int) -> dict[str, float]:
    """Measure one row in this process."""
    import cv2

    cv2.setNumThreads(threads)
    parameters, evaluations, measured_evaluations, run = opened(row, threads)
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    ms = 1000 * median(times) * (evaluations / measured_evaluations if evaluations else 1)
    gb = memory(os.getpid(), "VmHWM")  # getrusage would include the memory of the process that started this one
    return {"parameters": parameters / 1e6, "evaluations": evaluations, "ms": round(ms, 2), "gb": round(gb, 3)}


def opened(row: str, threads: int) -> tuple[int, int, int, Callable[[], object]]:
    """Parameters, evaluations per object, evaluations per call, and the call."""
    if row in PUBLISHED:
        return unet(*PUBLISHED[row], threads)
    photo, modal = drawn()
    name = row.split(" ")[0]
    if row.endswith("(exported)"):
        from amodalseg.models import CHECKPOINTS
        from amodalseg.models.exported import OnnxPredictor
        from amodalseg.models.exported_weights import weights_beside

        file = next(folder / f"{name}.onnx" for folder in CHECKPOINTS if (folder / f"{name}.onnx").is_file())
        exported = OnnxPredictor(file, num_threads=threads)
        count = sum(map(np.size, weights_beside(file, file.read_bytes())[0].values()))
        calls = exported.evaluations(None)
        return count, calls, calls, lambda: exported.predict(photo, modal).amodal
    import torch

    from amodalseg.config.load import load_config
    from amodalseg.config.schema import TrainConfig
    from amodalseg.models import load_model, network_model_class

    torch.set_num_threads(threads)
    if name in CONTROLS:
        config = load_config(TrainConfig, ROOT / CONTROLS[name], ["data.missing=skip"]).model
        model = network_model_class(name)(config)
    else:
        model = load_model(name, device="cpu")  # type: ignore[assignment]
    calls = model.predict(photo, modal).evaluations
    return model.num_parameters() or 0, calls, calls or 1, lambda: model.predict(photo, modal).amodal


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """A photo of 640 x 480 and the modal mask of an object partly occluded by a bar."""
    rng = np.random.default_rng(0)
    photo = np.repeat(np.repeat(rng.integers(0, 255, (12, 16, 3), np.uint8), 40, axis=0), 40, axis=1)
    y, x = np.ogrid[:480, :640]
    modal = ((y - 240) / 90) ** 2 + ((x - 320) / 120) ** 2 < 1
    photo[modal] = (200, 60, 40)
    photo[:, 330:370] = (30, 90, 160)
    modal[:, 330:370] = False
    return photo, modal


def unet(
    options: dict[str, object], tokens: int, evaluations: int, threads: int
) -> tuple[int, int, int, Callable[[], object]]:
    """A diffusion U-Net with random weights, in the form of ``opened``."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(threads)
    network = UNet2DConditionModel(**options).eval()
    size, channels = int(str(options["sample_size"])), int(str(options.get("in_channels", 4)))
    latents = torch.randn(1, channels, size, size)
    condition = torch.randn(1, tokens, int(str(options["cross_attention_dim"])))

    @torch.inference_mode()
    def run() -> object:
        return network(latents, 181, condition).sample

    return sum(p.numel() for p in network.parameters()), evaluations, 1, run


if __name__ == "__main__":
    main()
