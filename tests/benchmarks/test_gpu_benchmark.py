"""The GPU benchmark runs on a CPU with small settings; a part that fails or hangs does not affect the others."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from amodalseg.errors import UserError

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))  # as for a script in that folder

import gpu  # noqa: E402
import gpu_checks  # noqa: E402
import gpu_parts  # noqa: E402
from gpu_report import Result, markdown, write_pieces, write_results  # noqa: E402


def part(name, tmp_path, *more):
    """Run one part in this process. Returns: its exit code and its report."""
    arguments = [
        name,
        "--work",
        str(tmp_path),
        "--result",
        str(tmp_path / "r.json"),
        "--device",
        "cpu",
        "--tiny",
        *more,
    ]
    return gpu_parts.main(arguments), json.loads((tmp_path / "r.json").read_text())


def test_training_and_release_from_scratch(tmp_path, capsys):
    """Each part is a separate process."""
    out, work = tmp_path / "out", tmp_path / "work"
    command = ["--minutes", "8", "--out", str(out), "--tiny", "--work", str(work), "--device", "cpu",
               "--parts", "training,release", "trainer.max_time=0.02"]  # fmt: skip
    assert gpu.main(command) == 0, capsys.readouterr()
    found = json.loads((out / "results.json").read_text())
    parts = {row["name"]: row for row in found["parts"]}
    assert list(parts) == ["training", "release"]
    assert all(row["state"] == "passed" and row["seconds"] > 0 for row in parts.values())
    assert found["about"]["device"] == "cpu" and found["about"]["versions"]["torch"]
    steps = torch.load(work / "run/last.ckpt", weights_only=True)["global_step"]
    assert parts["training"]["figures"]["steps"] == steps > 0
    assert parts["training"]["figures"]["samples"] == 2 * steps
    files = {path.name: path.stat().st_size for path in out.iterdir()}
    assert set(files) == {"results.json", "results.md", "log.txt", "training.csv", "training.png",
                          "synthetic_tiny.safetensors"}  # fmt: skip
    assert len(files) <= 8 and max(files.values()) <= 16e6
    text = (out / "results.md").read_text()
    assert "| training | passed |" in text and "val per_object_occluded.full" in text
    from amodalseg import load_model

    assert load_model(out / "synthetic_tiny.safetensors", "cpu").about["hardware"] == "cpu"


@pytest.mark.parametrize("name", ["predictions", "process_group", "resume"])
def test_checks_pass_on_the_cpu(name, tmp_path):
    code, report = part(name, tmp_path)
    assert code == 0 and report["passed"] and report["done"], report["what"]
    assert "LOCAL_RANK" not in os.environ, "later runs would not start their second process"
    assert not torch.distributed.is_initialized() and not torch.are_deterministic_algorithms_enabled()


def test_a_resumed_run_with_different_weights_is_detected(tmp_path, monkeypatch):
    """The check of exact resuming fails if random numbers are not seeded by the step."""
    from amodalseg.models.training import TrainingModule

    monkeypatch.setattr(TrainingModule, "seed_step", lambda self, batch_idx: None)
    monkeypatch.setattr(gpu_checks, "LARGEST_NOISE", 1e-4)
    code, report = part("resume", tmp_path)
    assert code == 1 and not report["passed"] and "after going on" in report["what"]


def test_the_sampler_is_compared_with_a_plain_loop(tmp_path):
    code, report = part("sampler_b4", tmp_path)
    figures = report["figures"]
    assert code == 0 and "| straightforward | 2 | 1 |" in figures["table"] and "| + bf16 |" in figures["table"]
    best = next(value for name, value in figures.items() if name.startswith("best (") and "objects" in name)
    assert best >= figures["straightforward, objects/s"] > 0
    assert figures["speed-up"] == pytest.approx(best / figures["straightforward, objects/s"])
    assert figures["best, % of the bf16 matmul peak"] > 0


def test_compiled_predictions_are_compared_with_eager_ones(tmp_path, monkeypatch):
    """Without the compiler, which takes minutes here: correct predictions pass, wrong ones fail."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    code, report = part("compile", tmp_path)
    assert code == 0 and report["figures"]["least IoU"] == 1

    def wrong(function, **_):
        def shifted(*given):
            found = function(*given)
            return (found[0] - 1, *found[1:]) if isinstance(found, tuple) else found - 1

        return shifted

    monkeypatch.setattr(torch, "compile", wrong)
    assert part("compile", tmp_path)[0] == 1


def test_different_predictions_do_not_pass():
    right = {"least IoU": 1.0, "mean difference of probability": 0.0}
    assert gpu_checks.within(right, 0.99, 1e-3)
    assert not gpu_checks.within({**right, "least IoU": 0.98}, 0.99, 1e-3)
    assert not gpu_checks.within({**right, "mean difference of probability": float("nan")}, 0.99, 1e-3)


REPORT = (
    "import json, sys, time; p = {'done': %s, 'passed': %s, 'what': 'half', 'figures': {'a': 1}, 'machine': {}}; "
    "open(sys.argv[1], 'w').write(json.dumps(p)); %s"
)


@pytest.mark.parametrize(
    ("code", "seconds", "state", "what"),
    [
        (REPORT % (True, True, ""), 60, "passed", "half"),
        (REPORT % (True, False, "sys.exit(1)"), 60, "failed", "half"),
        (REPORT % (False, True, "time.sleep(600)"), 3, "timed out", "killed after 3 s. half"),
        ("import time; time.sleep(600)", 1, "timed out", "killed after 1 s."),
        ("import os; os.abort()", 60, "failed", "exit code -6"),
        (REPORT % (False, True, "raise RuntimeError('no more')"), 60, "failed", "RuntimeError: no more"),
    ],
)
def test_failures_and_timeouts_of_a_part_are_reported(tmp_path, code, seconds, state, what):
    result, written = Result("predictions"), []
    began = time.monotonic()
    command = [sys.executable, "-c", code, str(tmp_path / "predictions.json")]
    gpu.run_part(command, result, tmp_path, seconds, lambda: written.append(dict(result.figures)))
    assert time.monotonic() - began < 60
    assert result.state == state and what in result.what
    if "half" in what:
        assert result.figures == {"a": 1}
    if "half" in what and state == "timed out":
        assert written == [{"a": 1}], "the figures were written before the end"


def test_later_parts_run_after_a_failed_one(tmp_path, monkeypatch, capsys):
    def command(options, work, name, seconds):
        good = name != "compile"
        return [sys.executable, "-c", REPORT % (good, good, "" if good else "1 / 0"), str(work / f"{name}.json")]

    monkeypatch.setattr(gpu, "command_of", command)
    arguments = ["--minutes", "2", "--out", str(tmp_path / "out"), "--tiny", "--parts", "predictions,compile,resume"]
    assert gpu.main(arguments) == 1
    states = [row["state"] for row in json.loads((tmp_path / "out/results.json").read_text())["parts"]]
    assert states == ["passed", "failed", "passed"]
    assert "ZeroDivisionError" in (tmp_path / "out/log.txt").read_text()


def test_training_gets_the_time_left_by_the_other_parts(tmp_path):
    options = gpu.read_options(["--minutes", "8", "--out", str(tmp_path / "out"), "--tiny"])
    steps = gpu.plan(options, tmp_path)
    ends = [step.ends for step in steps]
    assert [step.name for step in steps] == list(gpu.SHARES) and ends == sorted(ends)
    assert ends[-1] == pytest.approx(480) and sum(gpu.SHARES.values()) == 100

    def minutes(seconds):
        words = gpu.command_of(options, tmp_path, "training", seconds)
        return float(next(word for word in words if word.startswith("trainer.max_time=")).partition("=")[2])

    assert minutes(400) == pytest.approx((400 - 60) / 60, abs=1e-3)
    assert minutes(10) == pytest.approx(6.5 / 60, abs=1e-3)


def test_relative_folders_are_relative_to_the_callers_folder(tmp_path, monkeypatch):
    """Although the parts run in the project's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMODALSEG_DATA", "photos")
    options = gpu.read_options(["--minutes", "1", "--out", "out", "--tiny"])
    assert options.out == tmp_path / "out" and os.environ["AMODALSEG_DATA"] == str(tmp_path / "photos")


def test_a_dry_run_does_nothing(tmp_path):
    program = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--minutes", "8", "--out", str(tmp_path / "out")]
    done = subprocess.run([*program, "--tiny", "--dry-run", "optim.lr=1e-3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + len(gpu.SHARES) and "optim.lr=1e-3" in lines[7] and "ends by   480 s" in lines[8]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--minutes", "0"], "--minutes 0 leaves no time"),
        (["--minutes", "nan"], "leaves no time"),
        (["--data", "nowhere"], "--data nowhere is not a folder"),
        (["--parts", "predictions,nothing"], "'nothing' is none of predictions"),
        (["optim.lrr=1"], "did you mean 'optim.lr'"),
        (["--experiment", "nothing"], "no configuration file"),
        (["--out", "{full}"], "is not empty"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, monkeypatch, options, part):
    monkeypatch.setenv("AMODALSEG_DATA", "unset")  # put back at the end
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    given = [word.format(full=tmp_path / "full") for word in options]
    assert gpu.main(["--minutes", "1", "--out", str(tmp_path / "out"), "--tiny", *given]) == 2
    error = capsys.readouterr().err
    assert part in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_photos_are_reported_before_anything_starts(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("AMODALSEG_DATA", "unset")  # put back at the end
    given = ["--minutes", "1", "--out", str(tmp_path / "out"), "--data", str(tmp_path)]
    assert gpu.main(given) == 2
    assert "name the folder of the photos by --data" in capsys.readouterr().err
    assert gpu.main([*given, "--dry-run", "--parts", "predictions"]) == 0, "predictions need none"


def test_a_large_file_is_split_into_pieces_that_can_be_joined(tmp_path):
    content = bytes(range(256)) * 10
    (tmp_path / "m.safetensors").write_bytes(content)
    names = write_pieces(tmp_path / "m.safetensors", tmp_path / "out", room=3, limit=1000)
    assert names == ["m.safetensors.1", "m.safetensors.2", "m.safetensors.3"]
    assert max((tmp_path / "out" / name).stat().st_size for name in names) <= 1000
    subprocess.run("cat m.safetensors.? > m.safetensors", shell=True, check=True, cwd=tmp_path / "out")
    joined = (tmp_path / "out/m.safetensors").read_bytes()
    assert hashlib.sha256(joined).digest() == hashlib.sha256(content).digest()
    assert write_pieces(tmp_path / "m.safetensors", tmp_path / "whole", room=1) == ["m.safetensors"]
    with pytest.raises(UserError, match="more than 2 files"):
        write_pieces(tmp_path / "m.safetensors", tmp_path / "none", room=2, limit=1000)
    assert not (tmp_path / "none").exists()


def test_a_killed_training_run_is_released_from_its_last_checkpoint(tmp_path, capsys):
    gpu_checks.small_run(SimpleNamespace(device="cpu", tiny=True), tmp_path / "run")
    (tmp_path / "run/model.safetensors").unlink()
    code, report = part("release", tmp_path, "--out", str(tmp_path / "out"), "--experiment", "some.yaml")
    assert code == 0 and "some.safetensors of last.ckpt: the training did not end" in report["what"]
    assert report["figures"]["bytes"] == (tmp_path / "out/some.safetensors").stat().st_size


def test_nothing_to_release_is_a_failure(tmp_path):
    code, report = part("release", tmp_path, "--out", str(tmp_path / "out"), "--experiment", "some.yaml")
    assert code == 1 and report["what"] == "training left no weights"


def test_results_show_the_state_of_each_part(tmp_path):
    results = [Result("predictions", "running"), Result("release")]
    write_results(tmp_path / "out", {"experiment": "x", "minutes": 8}, results, tmp_path)
    assert [row["state"] for row in json.loads((tmp_path / "out/results.json").read_text())["parts"]] == [
        "running",
        "waiting",
    ]
    about = {"experiment": "x", "minutes": 8, "commit": "c", "versions": {"torch": "2"}}
    results[0].figures = {"share": 0.123456, "count": 12345, "table": "| a |", "join": "`cat`"}
    text = markdown(about, results)
    assert "| share | 0.1235 |" in text and "| count | 12,345 |" in text and "\n| a |\n" in text
