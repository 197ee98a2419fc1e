"""The model zoo: the shipped files and their scores, from which the tables of README and card are generated.

    python benchmarks/zoo.py [EVALUATION ...] [--commit HASH]

EVALUATION: folders written by ``eval.py``, one for each of SETS, with the same models in all of them; their figures
replace those in ``amodalseg/models/zoo.json``. Without any, sizes and SHA-256 are updated. In both cases the tables
between the marks ``<!-- zoo: NAME -->`` and ``<!-- /zoo -->`` are rewritten.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed

from amodalseg.atomic import write_whole  # noqa: E402
from amodalseg.errors import UserError  # noqa: E402
from amodalseg.metrics.counts import read_rows  # noqa: E402
from amodalseg.metrics.paired import differences, pair_rows  # noqa: E402
from amodalseg.models import DEFAULT, list_models  # noqa: E402
from amodalseg.models.describe import ZOO  # noqa: E402

PAGES = (ROOT / "README.md", ROOT / "checkpoints/README.md")
SETS = {
    "duts": "composites of DUTS",
    "people": "composites of persons",
    "photos": "composites of ECSSD and COCO",
    "scenes": "objects behind natural occluders",
    "cocoa": "regions of COCOA, human annotation",
    "cocoa_more": "more objects, human annotation",
    "synthetic": "procedural objects, not seen in training",
}
"""Evaluation sets by the name of their file in ``configs/eval``; ``human.yaml`` holds the fifth and the sixth."""
FIGURES = (
    ("per_object_occluded", "occluded"),
    ("per_object_occluded", "full"),
    ("per_object", "full"),
    ("pooled", "occluded_of_occluded"),
    ("pooled", "full"),
)
MARK = re.compile(r"(?P<open><!-- zoo: (?P<name>\w+) -->\n)(?P<table>.*?)(?P<close><!-- /zoo -->)", re.DOTALL)

Zoo = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Read evaluations and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", nargs="*", type=Path, metavar="EVALUATION")
    parser.add_argument("--commit", help="of the evaluations")
    options = parser.parse_args(arguments)
    zoo = json.loads(ZOO.read_text("utf-8"))
    try:
        if options.evaluations:
            if not options.commit:
                raise UserError("say which commit the evaluations are of: --commit HASH")
            take_scores(zoo, options.evaluations, options.commit)
        take_files(zoo)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_whole(ZOO, json.dumps(zoo, indent=1, ensure_ascii=False) + "\n")
    for page in PAGES:
        write_whole(page, with_tables(page.read_text("utf-8"), zoo))
    return 0


def take_files(zoo: Zoo) -> None:
    """Store size, SHA-256 and number of parameters of every file of weights in the zoo."""
    for name, entry in zoo["weights"].items():
        path = ROOT / "checkpoints" / entry["file"]
        parts = entry.get("parts", {})
        for part in (entry["file"], *parts):
            if not (ROOT / "checkpoints" / part).is_file():
                raise UserError(f"a file of {name}, checkpoints/{part}, is missing")
        entry["bytes"], entry["sha256"] = path.stat().st_size, sha256(path)
        entry["parts"] = {part: sha256(ROOT / "checkpoints" / part) for part in parts}
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
        entry["about"] = {key: value for key, value in about.items() if isinstance(value, str)}


def sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def take_scores(zoo: Zoo, folders: list[Path], commit: str) -> None:
    """Store figures in percent with their intervals, and differences of the default model to all others.

    Models without a name are omitted: files that were evaluated only for comparison.
    """
    known = {*list_models()}
    scores: dict[str, Any] = {}
    apart: dict[str, Any] = {}
    for folder in folders:
        results = json.loads((folder / "metrics.json").read_text("utf-8"))["results"]
        for result in (result for result in results if result["model"] in known):
            name = _set_of(folder, result["dataset"])
            figures = {f"{protocol}.{figure}": _figure(result, protocol, figure) for protocol, figure in FIGURES}
            place = scores.setdefault(name, {"objects": result["num_objects"], "occluded": result["num_occluded"]})
            place.setdefault("models", {})[result["model"]] = figures
        rows: dict[str, list[Any]] = {}
        for row in read_rows(folder / "objects.csv"):
            rows.setdefault(str(row["model"]), []).append(row)
        for other in sorted((rows.keys() & known) - {DEFAULT}) if DEFAULT in rows else ():
            for key, pairs in pair_rows(rows[other], rows[DEFAULT]).items():
                found = {f"{d.protocol}.{d.figure}": _percent(d.b - d.a, d.low, d.high) for d in differences(pairs)}
                kept = {figure: found[figure] for figure in map(".".join, FIGURES) if figure in found}
                apart.setdefault(_set_of(folder, key[0]), {})[other] = kept
    missing = [name for name in SETS if name not in scores]
    if missing:
        raise UserError(f"there are no evaluations of {', '.join(missing)} among those given")
    models = sorted({name for place in scores.values() for name in place["models"]})
    command = f'python eval.py configs/eval/NAME.yaml "models=[{",".join(models)}]"'
    ordered = {name: scores[name] for name in SETS}
    zoo["scores"] = {"commit": commit, "command": command, "sets": ordered, "differences": apart}


def _set_of(folder: Path, dataset: str) -> str:
    names = {"cocoa": "cocoa", "coco_amodal": "cocoa_more"} if folder.name == "human" else {}
    return names.get(dataset, folder.name)


def _figure(result: dict[str, Any], protocol: str, figure: str) -> list[float] | None:
    value = result["scores"][protocol].get(figure)
    low, high = (result["intervals"].get(protocol) or {}).get(figure) or (None, None)
    # an interval over a handful of objects is meaningless
    return None if value is None else _percent(value, *((low, high) if result["num_occluded"] >= 30 else (None, None)))


def _percent(value: float, low: float | None, high: float | None) -> list[float]:
    limits = [] if low is None or high is None else [low, high]
    return [round(100 * number, 4) for number in (value, *limits)]


# -------------------------------------------------------------------------------------------------------------- tables


def with_tables(text: str, zoo: Zoo) -> str:
    """A page with its tables updated from the zoo."""
    return MARK.sub(lambda found: f"{found['open']}{TABLES[found['name']](zoo)}\n{found['close']}", text)


def files_table(zoo: Zoo) -> str:
    """Every file of weights."""
    lines = ["| file | size | SHA-256 | parameters | window |", "|---|---:|---|---:|---|"]
    for entry in zoo["weights"].values():
        window = f"{entry['window']} px" + (f", `{entry['kind']}`" if "kind" in entry else "")
        size, parameters = f"{entry['bytes'] / 1e6:.1f} MB", f"{entry['parameters']} M, fp16"
        lines.append(f"| `{entry['file']}` | {size} | `{entry['sha256']}` | {parameters} | {window} |")
    return "\n".join(lines)


def models_table(zoo: Zoo) -> str:
    """One line per model: size, data, speed, and the figures of four kinds of sets."""
    sets, said = zoo["scores"]["sets"], "duts / photos / scenes / human"
    kinds = (("duts",), ("photos",), ("scenes",), ("cocoa", "cocoa_more"))
    lines = [
        f"| model | size | data | `per_object_occluded` · occluded: {said} | `pooled` · full: {said} "
        "| speed, 2 CPU cores |",
        "|---|---|---|---|---|---|",
    ]
    for name in zoo["order"]:
        entry, figures, size, what = zoo["weights"].get(name), ["", ""], "none", f"`{name}`"
        if name in sets["duts"]["models"]:
            figures = [
                " / ".join(" and ".join(_cell(sets[one], name, figure) for one in kind) for kind in kinds)
                for figure in ("per_object_occluded.occluded", "pooled.full")
            ]
        if entry is None:
            entry = {"data": "none"}
        else:
            what = f"[{what}](checkpoints/README.md#{entry.get('card', name)}), {entry['parameters']} M parameters, "
            what, size = what + f"{entry['window']} px{entry['note']}", f"{entry['bytes'] / 1e6:.1f} MB, fp16"
        lines.append(f"| {' | '.join([what, size, entry['data'], *figures, entry.get('speed', '')])} |")
    return "\n".join(lines)


def scores_table(zoo: Zoo) -> str:
    """Every set, model and figure."""
    heads = [f"`{protocol}` · {figure}" for protocol, figure in FIGURES]
    lines = [f"| set | model | {' | '.join(heads)} |", f"|---|---|{'---:|' * len(heads)}"]
    for name, what in SETS.items():
        place = zoo["scores"]["sets"][name]
        number = f"{place['objects']}" + (
            f", {place['occluded']} occluded" if place["occluded"] < place["objects"] else ""
        )
        first = f"`{name}`: {number}; {what}"
        for model in (model for model in zoo["order"] if model in place["models"]):
            cells = [_cell(place, model, ".".join(figure)) for figure in FIGURES]
            lines.append(f"| {first} | `{model}` | {' | '.join(cells)} |")
            first = ""
    return "\n".join(lines)


def differences_table(zoo: Zoo) -> str:
    """The default model minus each of the others, for sets with enough objects."""
    apart = zoo["scores"]["differences"]
    others = [name for name in zoo["order"] if name != DEFAULT and name != "modal" and name in apart["duts"]]
    lines = [f"| `{DEFAULT}` less | {' | '.join(f'`{name}`' for name in others)} |", f"|---|{'---:|' * len(others)}"]
    for name in SETS:
        shown = [
            [apart[name][other].get(f"per_object_occluded.{figure}", [0.0]) for figure in ("occluded", "full")]
            for other in others
        ]
        if all(len(figure) == 3 for pair in shown for figure in pair) and zoo["scores"]["sets"][name]["occluded"] >= 30:
            cells = [" / ".join("{:+.1f} [{:+.1f}, {:+.1f}]".format(*figure) for figure in pair) for pair in shown]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(place: Zoo, model: str, figure: str) -> str:
    """A figure with its interval; the best of a set in bold."""
    found = place["models"][model].get(figure)
    if found is None:
        return "-"
    best = max(other[figure][0] for other in place["models"].values() if other.get(figure))
    value = f"**{found[0]:.1f}**" if found[0] == best else f"{found[0]:.1f}"
    return f"{value} [{found[1]:.1f} – {found[2]:.1f}]" if len(found) == 3 and found[0] else value


TABLES = {"files": files_table, "models": models_table, "scores": scores_table, "differences": differences_table}

if __name__ == "__main__":
    sys.exit(main())
