"""Keywords during sampling: selected by maps every few steps, for guidance and emphasis (MRGD, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from amodalseg.models.inpainting.backends.backend import Estimate, InpaintingBackend
from amodalseg.models.inpainting.steps.keywords import Emphasise, select, words_of
from amodalseg.models.inpainting.steps.maps import WatchMaps
from amodalseg.models.inpainting.steps.region_guidance import RegionGuidance
from amodalseg.models.inpainting.steps.regions import RegionsPrepared
from amodalseg.models.inpainting.steps.sample import Hook, Sampling

Texts = Sequence[Sequence[str | None]]
"""For each region its text in each row; None: the row does not have the region."""


class SelectKeywords(Hook):
    """Selects every few steps the words of lowest entropy, by the maps of that step; before ``RegionGuidance``.

    With a total region they are words of its text, filtered per region to those in the region's own text. Without one
    they are selected from each region's own text by its own maps.

    Args:
        inner: the model that generates the regions. A watched part that does not contribute yet is evaluated only for
            its maps.
        watches: by index of a part, the control that records its maps.
        texts: of the parts, the total region last.
        total: whether there is a total region.
        given: for each region, words that replace selected ones; empty: they are selected.
        count: N.
        every: steps between two selections.
        emphasise: of the total region; receives the columns of its words.
        guidance: receives the words of each region.

    words: for each region its words in each row, in the order of the text; None: the row does not have it.
    """

    def __init__(
        self,
        inner: InpaintingBackend,
        watches: Mapping[int, WatchMaps],
        texts: Texts,
        total: bool,
        given: Sequence[Sequence[str]],
        count: int = 15,
        every: int = 5,
        emphasise: Emphasise | None = None,
        guidance: RegionGuidance | None = None,
    ) -> None:
        self.inner, self.watches, self.texts, self.total, self.given = inner, watches, texts, total, given
        self.count, self.every, self.emphasise, self.guidance = count, every, emphasise, guidance
        self.named = [[None if text is None else words_of(inner, text) for text in rows] for rows in texts]
        self.words: list[list[tuple[str, ...] | None]] = []

    def estimate(self, sampling: Sampling, estimate: Estimate) -> Estimate:
        if sampling.index % self.every == 0:
            self._select(sampling)
            if self.guidance is not None:
                self.guidance.keywords = [
                    [None if words is None else " ".join(words) for words in rows] for rows in self.words
                ]
        return estimate

    def _select(self, sampling: Sampling) -> None:
        prepared = sampling.prepared
        assert isinstance(prepared, RegionsPrepared)
        found: dict[tuple[int, int], list[str]] = {}
        for number, watch in self.watches.items():
            part = prepared.parts[number]
            if part.total and not prepared.total:
                self.inner.estimate(part.box.crop(sampling.x), sampling.level, part.asked)
            for row, maps in zip(part.rows, watch.cross_maps(), strict=True):
                found[number, row] = select(maps, self.named[number][row] or [], self.count)
        last = len(self.texts) - 1
        if self.emphasise is not None:
            self.emphasise.columns = [
                [column for word, columns in named or [] if word in found[last, row] for column in columns]
                for row, named in enumerate(self.named[last])
            ]
        self.words = []
        for number, given in enumerate(self.given):
            rows: list[tuple[str, ...] | None] = []
            for row, named in enumerate(self.named[number]):
                if named is None:
                    rows.append(None)
                    continue
                own = [word for word, _ in named]
                asked = [word for keyword in given for word in keyword.lower().split()]
                chosen = asked or found[last if self.total else number, row]
                rows.append(tuple(dict.fromkeys(word for word in own if word in chosen)))
            self.words.append(rows)
