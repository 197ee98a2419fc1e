"""The pages of the site: all are generated and in the menu, and broken links are detected."""

import re
from pathlib import Path

import pytest
import yaml

import amodalseg
from docs.stage import PAGES, main, reference, staged

ROOT = Path(__file__).parents[1]


def pages_of(menu) -> list[str]:
    if isinstance(menu, str):
        return [menu]
    parts = menu if isinstance(menu, list) else menu.values()
    return [page for part in parts for page in pages_of(part)]


def test_all_pages_are_generated_and_in_the_menu(tmp_path):
    main(tmp_path / "pages")
    made = {str(path.relative_to(tmp_path / "pages")) for path in (tmp_path / "pages").rglob("*.md")}
    menu = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert made == set(menu) and len(menu) == len(set(menu))
    written = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "amodalseg").rglob("*.md")]
    assert {str(path.relative_to(ROOT)) for path in written} <= PAGES.keys()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("[a](predict.md#files)", "[a](predict.md#files)"),
        ("[a](../checkpoints/README.md#conddiff_amo_lite)", "[a](weights.md#conddiff_amo_lite)"),
        ("[a](../amodalseg/models/pcnet_m/README.md)", "[a](networks/pcnet_m.md)"),
        ("![a](pictures/word_prior.jpg)", "![a](pictures/word_prior.jpg)"),
        ("[`schema.py`](../amodalseg/config/schema.py)", "`schema.py`"),
        ("[a](https://example.org/x) [b](#here)", "[a](https://example.org/x) [b](#here)"),
        ("```text\n[a](nowhere.md)\n```", "```text\n[a](nowhere.md)\n```"),
    ],
)
def test_links_between_pages(given, wanted):
    assert staged(given, "docs/models.md", "models.md") == (wanted, [])


def test_broken_links_are_detected():
    assert staged("[a](nowhere.md#x)", "docs/models.md", "models.md")[1] == ["nowhere.md#x"]


def test_the_reference_has_every_public_name():
    entries = re.findall(r"^::: ([\w.]+)$", reference(), re.MULTILINE)
    assert {entry.rpartition(".")[2] for entry in entries} == set(amodalseg.__all__) - {"__version__"}
