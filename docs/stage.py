"""Lay out the pages of the site: ``python docs/stage.py OUT``. ``make docs`` builds them.

The pages are those that stand in the repository, where their links point to files of the repository, too. A link to
another page is turned into one between the site's pages; of a link to anything else only its text is left, after a look
whether its target exists. The reference of the interface is made of what the package says is public.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the project need not be installed

import amodalseg  # noqa: E402

PAGES = {
    "README.md": "index.md",
    **{f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))},
    "checkpoints/README.md": "weights.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "examples/browser/README.md": "browser.md",
    "integrations/README.md": "integrations.md",
    "integrations/label_studio/README.md": "label_studio.md",
    "integrations/fiftyone/README.md": "fiftyone.md",
    "integrations/comfyui/README.md": "comfyui.md",
    **{
        str(path.relative_to(ROOT)): f"networks/{path.parent.name}.md"
        for path in sorted((ROOT / "amodalseg/models").glob("*/README.md"))
    },
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""File in the repository -> page of the site."""
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
FENCE = re.compile(r"(```.*?```)", re.DOTALL)
GALLERY = {
    "conddiff_amo_lite_typical.jpg": "Predictions of `conddiff_amo_lite` on objects of the procedural world, around "
    "the upper quartile (left) and the median (right). White: the truth; the number: the IoU of the occluded region.",
    "conddiff_amo_lite_failures.jpg": "The eight worst of a hundred predictions of `conddiff_amo_lite`.",
    "conddiff_amo_tiny_typical.jpg": "Typical predictions of `conddiff_amo_tiny`.",
    "conddiff_amo_tiny_failures.jpg": "Some of the worst of a hundred predictions of `conddiff_amo_tiny`.",
    "inpainting_prior.jpg": "What the small inpainting prior generates.",
    "word_prior.jpg": "What the text-conditioned prior generates.",
    "moves.jpg": "Moves of the procedural world: before (blue: the visible part, orange: the target), the visible part "
    "moved alone, two models, and the truth.",
    "edits.jpg": "Edits of the procedural world with the text-conditioned prior.",
    "demo.jpg": "The web demo.",
    "label_studio.jpg": "A prediction in Label Studio: the object whose lower left was occluded.",
    "fiftyone.jpg": "Modal and amodal masks as two fields of a FiftyOne dataset.",
}


def main(out: Path) -> None:
    """Write all pages. Raises SystemExit: a link leads nowhere, or a picture has no caption."""
    shutil.rmtree(out, ignore_errors=True)
    broken = []
    for source, page in PAGES.items():
        text, dead = staged((ROOT / source).read_text("utf-8"), source, page)
        broken += [f"{source}: {target}" for target in dead]
        (out / page).parent.mkdir(parents=True, exist_ok=True)
        (out / page).write_text(text, "utf-8")
    pictures = ROOT / "docs/pictures"
    shutil.copytree(pictures, out / "pictures")
    unnamed = {path.name for path in pictures.iterdir() if path.suffix in (".jpg", ".png")} - GALLERY.keys()
    broken += [f"docs/pictures/{name} has no caption in docs/stage.py" for name in sorted(unnamed)]
    shown = [f"![{text}](pictures/{name})\n\n{text}\n" for name, text in GALLERY.items()]
    (out / "gallery.md").write_text("\n".join(["# Gallery\n", *shown]), "utf-8")
    (out / "reference.md").write_text(reference(), "utf-8")
    if broken:
        sys.exit("\n".join(["links that lead nowhere:", *broken]))


def staged(text: str, source: str, page: str) -> tuple[str, list[str]]:
    """A page of the repository as one of the site.

    Args:
        text: of the page.
        source: its file, relative to the repository.
        page: what it becomes, relative to the site.

    Returns:
        The text, and the targets of links that lead nowhere.
    """
    dead: list[str] = []

    def replaced(found: re.Match[str]) -> str:
        target = found["target"]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, hash_sign, anchor = target.partition("#")
        full = os.path.normpath(Path(source).parent / path)
        if not (ROOT / full).exists():
            dead.append(target)
        elif full in PAGES:
            return f"{found['mark']}[{found['text']}]({_between(page, PAGES[full])}{hash_sign}{anchor})"
        elif full.startswith("docs/pictures/"):
            return f"{found['mark']}[{found['text']}]({_between(page, full.removeprefix('docs/'))})"
        return found["text"]

    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(replaced, part) for part in parts), dead


def _between(page: str, other: str) -> str:
    return os.path.relpath(other, Path(page).parent)


def reference() -> str:
    """One entry for each public name."""
    lines = [
        "# Reference",
        "",
        "What `import amodalseg` offers. Anything else may change with a release.",
        "",
    ]
    for name in sorted(set(amodalseg.__all__) - {"__version__"}, key=str.lower):
        lines += [f"::: {amodalseg._PUBLIC[name]}.{name}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
