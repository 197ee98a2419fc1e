"""Prompt-to-Prompt: alignment against tables by hand, and maps injected from sources into targets."""

import itertools
import random
from dataclasses import replace

import pytest
import torch

from amodalseg.config.schema import BackendConfig
from amodalseg.errors import UserError
from amodalseg.models.inpainting.backends.attention import Control
from amodalseg.models.inpainting.backends.hub_models import open_hub_model
from amodalseg.models.inpainting.steps.prompt_edit import (
    EditMaps,
    EditSteps,
    Mapper,
    align,
    common_subsequence,
    pieces_of_words,
)
from amodalseg.models.inpainting.steps.sample import advance, begin
from tests.models.inpainting.tiny_hub import pictures_and_holes, save_stable_diffusion

LENGTH = 12


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    folder = save_stable_diffusion(tmp_path_factory.mktemp("hub") / "sd", in_channels=4)
    return open_hub_model(BackendConfig(name=str(folder)), "cpu")


def tokens(text):
    """One token per word, except for words with a hyphen."""
    pieces = [piece for word in text.split() for piece in f"{word}</w>".replace("-", "-|").split("|")]
    return ["<begin>", *pieces, "<end>"]


def slow_length(one, other):
    """Length of the longest common subsequence, by trying all subsequences."""
    for count in range(len(one), 0, -1):
        for places in itertools.combinations(range(len(one)), count):
            rest = iter(other)
            if all(one[place] in rest for place in places):
                return count
    return 0


def table(mapper):
    """Column of the target -> columns of the source with their shares; for replaced columns only."""
    found = {}
    for column in mapper.taken.nonzero().flatten().tolist():
        rows = mapper.matrix[:, column].nonzero().flatten().tolist()
        found[column] = {row: round(float(mapper.matrix[row, column]), 4) for row in rows}
    return found


def test_the_longest_common_subsequence_equals_a_slow_search():
    chance = random.Random(0)
    for _ in range(200):
        one, other = ("".join(chance.choices("abc", k=chance.randint(0, 7))) for _ in range(2))
        pairs = common_subsequence(one, other)
        assert all(one[i] == other[j] for i, j in pairs)
        assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(pairs))
        assert len(pairs) == slow_length(one, other)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        # begin, a, cat, end, padding; "red" is new
        ("a cat", "a red cat", {0: 0, 1: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6, 8: 7, 9: 8, 10: 9, 11: 10}),
        # "red" is removed; the last padding has no counterpart
        ("a red cat", "a cat", {0: 0, 1: 1, 2: 3, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 8: 9, 9: 10, 10: 11, 11: 11}),
        # in a refinement, a replaced word keeps its own map
        ("a cat", "a dog", {0: 0, 1: 1, **{column: column for column in range(3, 12)}}),
        ("", "a cat", {0: 0, **{column: column - 2 for column in range(3, 12)}}),
    ],
)
def test_refinement_equals_tables_by_hand(source, target, expected):
    assert table(align(tokens(source), tokens(target), LENGTH)) == {to: {of: 1.0} for to, of in expected.items()}


def test_equal_texts_are_aligned_column_by_column():
    for swap in (False, True):
        mapper = align(tokens("a red cat"), tokens("a red cat"), LENGTH, swap)
        assert mapper.taken.all() and torch.equal(mapper.matrix, torch.eye(LENGTH))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("a cat here", "a dog here", {1: {1: 1.0}, 2: {2: 1.0}, 3: {3: 1.0}, 4: {4: 1.0}}),
        ("a x-y", "a z-w", {1: {1: 1.0}, 2: {2: 1.0}, 3: {3: 1.0}, 4: {4: 1.0}}),
        # one piece for two: each gets half of its map; two for one: it gets the sum
        ("a cat here", "a x-y here", {1: {1: 1.0}, 2: {2: 0.5}, 3: {2: 0.5}, 4: {3: 1.0}, 5: {4: 1.0}}),
        ("a x-y here", "a cat here", {1: {1: 1.0}, 2: {2: 1.0, 3: 1.0}, 3: {4: 1.0}, 4: {5: 1.0}}),
    ],
)
def test_word_swap_equals_tables_by_hand(source, target, expected):
    found = table(align(tokens(source), tokens(target), LENGTH, swap=True))
    assert found[0] == {0: 1.0}
    assert {column: found[column] for column in expected} == expected
    assert sorted(found) == list(range(LENGTH))


def test_the_shares_of_a_swap_sum_to_one():
    source, target = tokens("a x-y here"), tokens("a u-v-w here")
    matrix = align(source, target, LENGTH, swap=True).matrix
    torch.testing.assert_close(matrix[: len(source)].sum(1), torch.ones(len(source)))


def test_words_and_their_pieces():
    assert pieces_of_words(tokens("a x-y b")) == [[1], [2, 3], [4]]
    assert pieces_of_words(["<begin>", "a</w>", "x-", "<end>"]) == [[1], [2]]  # truncated
    assert pieces_of_words(tokens("")) == []


def test_texts_of_different_length_cannot_be_swapped():
    with pytest.raises(UserError, match=r"^2 words cannot be swapped for 3: give texts of as many words"):
        align(tokens("a cat"), tokens("a red cat"), LENGTH, swap=True)


class Watch(Control):
    """Stores the attention maps as they are at this control's position in the chain."""

    def start(self):
        self.kept = {}

    def wants_maps(self, site):
        return True

    def maps(self, site, weights):
        self.kept[(site.name, site.cross)] = weights
        return weights


def evaluated(backend, texts, *controls):
    pictures, holes = (values.expand(2, -1, -1, -1) for values in pictures_and_holes(1))
    prepared = replace(backend.prepare(pictures, holes, texts), attention=controls)
    x = torch.randn((1, *prepared.known.shape[1:]), generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    return backend.estimate(x, backend.levels(4)[1], prepared).noise


def mapper_of(backend, source, target, swap=False):
    return align(backend.tokens(source), backend.tokens(target), LENGTH, swap)


def test_maps_of_targets_equal_those_of_their_sources(backend):
    mapper = mapper_of(backend, "a cat", "a b cat")
    edit, before, after = EditMaps([mapper], 1.0, 1.0, decay=False), Watch(), Watch()
    evaluated(backend, ["a cat", "a b cat"], before, edit, after)
    crosses = 0
    for (name, cross), was in before.kept.items():
        is_ = after.kept[name, cross]
        assert torch.equal(is_[:1], was[:1])
        if not cross:
            assert torch.equal(is_[1:], was[:1])
            continue
        crosses += 1
        for column in range(LENGTH):
            if mapper.taken[column]:
                row = int(mapper.matrix[:, column].argmax())
                torch.testing.assert_close(is_[1, ..., column], was[0, ..., row])
            else:
                assert torch.equal(is_[1, ..., column], was[1, ..., column])
    assert crosses and not mapper.taken[2]


def test_a_source_does_not_depend_on_its_target(backend):
    alone = evaluated(backend, ["a cat", "a cat"], Watch())
    edit = EditMaps([mapper_of(backend, "a cat", "b cat", True)], 1.0, 0.7)
    together = evaluated(backend, ["a cat", "b cat"], Watch(), edit)
    assert torch.equal(together[0], alone[0])
    free = evaluated(backend, ["a cat", "b cat"], Watch())
    assert (together[1] - free[1]).abs().max() > 1e-5
    assert (together[1] - alone[1]).abs().max() > 1e-5  # the values of the words are those of the target


def test_an_unchanged_text_generates_the_source(backend):
    edit = EditMaps([mapper_of(backend, "a cat", "a cat")], 1.0, 1.0, decay=False)
    found = evaluated(backend, ["a cat", "a cat"], edit)
    torch.testing.assert_close(found[1], found[0])


def test_the_share_of_the_source_over_the_steps():
    mapper = Mapper(torch.eye(3), torch.ones(3, dtype=torch.bool))
    edit = EditMaps([mapper], 0.8, 0.4)
    found = []
    for edit.done in (0.0, 0.2, 0.4, 0.8, 1.0):
        found.append((edit.strength(True), edit.strength(False)))
    assert found == [(1.0, 1.0), (0.75, 0.5), (0.5, 0.0), (0.0, 0.0), (0.0, 0.0)]
    edit = EditMaps([mapper], 0.8, 0.0, decay=False)
    found = []
    for edit.done in (0.0, 0.79, 0.8):
        found.append((edit.strength(True), edit.strength(False)))
    assert found == [(1.0, 0.0), (1.0, 0.0), (0.0, 0.0)]


def test_a_share_of_one_half_is_the_mean_and_zero_has_no_effect(backend):
    texts, mapper = ["a cat", "b cat"], mapper_of(backend, "a cat", "b cat", True)
    edit, before, after = EditMaps([mapper], 1.0, 1.0), Watch(), Watch()
    edit.done = 0.5
    evaluated(backend, texts, before, edit, after)
    for place, was in before.kept.items():
        torch.testing.assert_close(after.kept[place][1], (was[0] + was[1]) / 2)
    edit.done = 1.0
    assert torch.equal(evaluated(backend, texts, edit), evaluated(backend, texts))


def test_large_self_attention_maps_are_not_replaced(backend):
    edit, before, after = EditMaps([mapper_of(backend, "a", "a")], 1.0, 1.0, places=15, decay=False), Watch(), Watch()
    evaluated(backend, ["a", "b"], before, edit, after)
    for (name, cross), was in before.kept.items():
        assert torch.equal(after.kept[name, cross], was) != cross  # self-attention is at 4 x 4 positions


def test_controls_get_the_share_of_steps_done(backend):
    edit = EditMaps([mapper_of(backend, "a cat", "b cat", True)], 1.0, 1.0)
    shares = []
    edit.start = lambda: shares.append(edit.done)
    pictures, holes = (values.expand(2, -1, -1, -1) for values in pictures_and_holes(1))
    prepared = replace(backend.prepare(pictures, holes, ["a cat", "b cat"]), attention=(edit,))
    advance(begin(backend, prepared, (1, 1), 4), [EditSteps([edit])])
    assert shares == [0.0, 0.25, 0.5, 0.75]
