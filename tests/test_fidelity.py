"""docs/fidelity.md: files and names of every row exist, and no numbered item of a paper is missing."""

import re
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/fidelity.md").read_text()
PLACES = [ROOT, ROOT / "amodalseg"]
OWN = {
    "004": ROOT / "amodalseg/models/conddiff_amo",
    **dict.fromkeys(("001", "002", "000", "003"), ROOT / "amodalseg/models/inpainting"),
}
EQUATIONS = {"004": 12, "001": 6, "002": 11, "000": 10, "003": 6}
TABLES = {
    "004": ["1", "2", "3", "4"],
    "001": ["1", "2", "3"],
    "002": [*"123456789", *(f"S{number}" for number in range(1, 8))],
    "000": ["1", "2", "3", "4"],
    "003": ["1"],
}
STATED = {
    "004": ["T = 10", "AdamW", "40 epochs", "batches of 16", "256 x 256", "PVTv2-B4", "dilations 1 and 3, 6 and 12"],
    "001": ["50 steps", "20 %", "step 20 of 50", "third decoder", "3,000", "20 to 50 %", "50 to 80 %", "50 and 50"],
    "002": ["strength 0.3", "noise on the object, 0.3", "w = 0.75", "w = 7.5", "1.5 for Flux", "20 steps",
            "nine points", "10 px", "8 bits", "13k", "200 images", "7k", "1k videos", "507k"],
    "000": ["32 x 32", "512", "64", "A photo of", "120 images", "150 objects", "8 targets", "60 volunteers"],
    "003": ["N = 15", "1000", "2000", "300", "tau = 0.5", "20 steps", "ViT-B/16", "512 x 512", "61 pairs"],
}  # fmt: skip


def rows(paper):
    """The lines of a paper's table: statement, where, state."""
    (section,) = re.findall(rf"^## [^\n]*\({paper}\)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    lines = [re.split(r" ?\| ?", line.strip("| ")) for line in section.splitlines() if line.startswith("|")]
    assert lines[0] == ["statement", "where", "state"] and all(len(line) == 3 for line in lines), lines
    return lines[2:]


@pytest.mark.parametrize("paper", OWN)
def test_every_file_and_every_name_exists(paper):
    for statement, where, _ in rows(paper):
        places = re.findall(r"`([^`]+)`", where)
        assert places, statement
        for place in places:
            path, _, name = place.partition(":")
            found = [folder / path for folder in (OWN[paper], *PLACES) if (folder / path).is_file()]
            assert found, f"{statement}: no {path}"
            assert name in found[0].read_text(), f"{statement}: no {name} in {path}"


@pytest.mark.parametrize("paper", OWN)
def test_every_state_is_one_of_three_and_has_a_reason(paper):
    for statement, _, state in rows(paper):
        assert re.match(r"done\b|(differs|cannot be known): ", state), f"{statement}: {state}"


@pytest.mark.parametrize("paper", OWN)
def test_all_equations_tables_and_stated_numbers_are_listed(paper):
    statements = [statement for statement, _, _ in rows(paper)]
    text = "\n".join(statements)
    equations = [int(number) for number in re.findall(r"\beq\. (\d+)", text)]
    assert set(equations) == set(range(1, EQUATIONS[paper] + 1))
    assert set(re.findall(r"^table (S?\d+)", text, re.M)) == set(TABLES[paper])
    assert [word for word in STATED[paper] if word not in text] == []


def test_every_line_of_the_algorithm_is_listed():
    lines = chain.from_iterable(
        range(int(first), int(last or first) + 1)
        for first, last in re.findall(
            r"^algorithm 1, lines? (\d+)(?: to (\d+))?", "\n".join(r[0] for r in rows("003")), re.M
        )
    )
    assert list(lines) == list(range(1, 24))


def test_the_readme_links_to_the_page():
    assert "docs/fidelity.md" in (ROOT / "README.md").read_text()
