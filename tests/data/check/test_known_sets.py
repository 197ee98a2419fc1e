"""The cards of the published data sets: complete, consistent with the readers, and documented in docs/data.md."""

import re
from pathlib import Path

import pytest

from amodalseg.config.load import build
from amodalseg.config.schema import PUBLISHED, DataOnly
from amodalseg.data.check.card import EVIDENCE
from amodalseg.data.check.finding import KINDS
from amodalseg.data.check.known_sets import CARDS, OTHER_WORDS, card_of, expected_parts, find
from tests.worlds import WORLDS

PAGE = (Path(__file__).parents[3] / "docs/data.md").read_text()


def config_of(name, root, *options, **rest):
    content = {"name": name, "root": str(root), **dict(option.split("=", 1) for option in options), **rest}
    return build(DataOnly, [("test", {"data": content})]).data


def section(name):
    """The section of docs/data.md on a data set, without line breaks."""
    for part in re.split(r"^##+ ", PAGE, flags=re.M):
        if part.partition("\n")[0].endswith(f": `{name}`"):
            return " ".join(part.split())
    raise AssertionError(f"docs/data.md has no section on {name}")


def test_every_published_set_has_a_card():
    assert set(CARDS) == set(PUBLISHED) | {"kins_2019"}
    for name in PUBLISHED:
        assert card_of(config_of(name, "root")) is CARDS[name]
    assert card_of(config_of("kins", "root", version="2019")) is CARDS["kins_2019"]


@pytest.mark.parametrize("name", sorted(CARDS))
def test_facts_have_evidence(name):
    card = CARDS[name]
    assert card.title and card.paper and card.get and card.licence
    for count in (*card.total, *(count for part in card.parts.values() for count in part.counts)):
        assert count.evidence in EVIDENCE and count.value > 0
        assert count.unit in ("images", "objects", "videos", "tracks")
    texts = " ".join([card.get, card.licence, *card.errors])
    assert set(re.findall(r"\[([A-Z])\]", texts)) <= set(EVIDENCE)
    assert set(card.known) <= set(KINDS)
    for word, split in OTHER_WORDS.get(name, {}).items():
        assert word not in card.parts and split in card.parts


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_page_contains_the_facts_of_the_card(name):
    card, text = CARDS[name], section(name)
    for fact in (card.get, card.licence, *card.errors):
        assert " ".join(fact.split()) in text, fact
    if name != "coco_amodal":
        assert card.paper in text
    for split, part in card.parts.items():
        assert not part.counts or f"{split}: {', '.join(f'{c.unit} {c}' for c in part.counts)}" in text
        for names in part.annotations:
            assert any(_shown(name, split, text) for name in names), names
        for folder in part.photos:
            assert folder == "." or _shown(folder, split, text), folder
    for count in card.total:
        assert f"all splits together: {count.unit} {count}" in text


def _shown(path, split, text):
    """Whether the layout lists a file, literally or with its split among several in braces."""
    words = {"train2014": "2014", "val2014": "2014"}
    options = [path, Path(path).name, *(path.replace(s, w) for s, w in words.items())]
    braces = re.findall(r"\{([\w,]+)\}", text)
    options += [path.replace(split, "{" + inner + "}") for inner in braces if split in inner.split(",")]
    return any(option in text for option in options)


def test_the_page_lists_exactly_the_kinds_of_findings():
    table = PAGE.partition("| kind | expected")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.M))
    assert rows == KINDS


def test_links_within_the_page_have_targets():
    titles = re.findall(r"^##+ (.+)$", PAGE, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    links = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert len(links) > 15 and set(links) <= anchors, set(links) - anchors


@pytest.mark.parametrize("world_name", sorted(set(WORLDS) - {"pix2gestalt"}))
def test_cards_name_the_files_that_readers_open(world_name, tmp_path):
    world = WORLDS[world_name](tmp_path / "data")
    parts = expected_parts(config_of(world.name, world.root, *world.options))
    for split in (world.train, world.test):
        for names in parts[split].annotations:
            assert find(world.root, names), names
        assert not parts[split].photos or find(world.root, parts[split].photos)


def test_expected_parts_with_explicit_paths(tmp_path):
    parts = expected_parts(config_of("kins", tmp_path, annotations="a.json", images="photos", split="val"))
    assert list(parts) == ["test"]  # the name of this split in KINS
    assert parts["test"].annotations == ((str(Path("a.json").absolute()),),)
    assert parts["test"].photos == (str(Path("photos").absolute()),) and parts["test"].counts
    file = tmp_path / "one.json"
    file.write_text("{}")
    (name, part), *others = expected_parts(config_of("cocoa", file)).items()
    assert name == "val" and part.annotations == ((str(file),),) and not part.photos and not others


def test_splits_of_the_exchange_format_are_found_in_its_folder(tmp_path):
    (tmp_path / "annotations").mkdir()
    for name in ("mine_modal.json", "mine_amodal.json", "other_modal.json"):
        (tmp_path / "annotations" / name).write_text("{}")
    assert list(expected_parts(config_of("coco_amodal", tmp_path))) == ["mine", "other"]
    assert list(expected_parts(config_of("coco_amodal", tmp_path / "none", split="val"))) == ["val"]
