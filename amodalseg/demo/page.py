"""The page itself: gradio's components and their event handlers."""

from __future__ import annotations

import functools
import html
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

import amodalseg
from amodalseg import masks
from amodalseg.demo.answer import answer
from amodalseg.demo.marks import CORNER, OFF, ON, Marks, brushed, clicked, read_marks
from amodalseg.demo.pictures import BRUSHED, marked_picture, shrunk
from amodalseg.demo.uploads import MASK_TYPES, MEGABYTES, MEGAPIXELS, OBJECTS, TYPES, read_masks, read_photo
from amodalseg.errors import UserError
from amodalseg.masks import Rle
from amodalseg.models.base import AmodalModel

KEPT = 3600
"""Time that files of a visitor are kept, seconds."""
WAITING = 40
"""Maximum number of waiting requests; further ones are refused."""
CSS = """
.gradio-container {min-width: 0 !important; max-width: min(1180px, 100vw) !important; margin: 0 auto !important}
#gallery, #gallery .grid-wrap {height: auto !important; min-height: 0 !important}
.status, .status > div {padding: 0 !important}
.status p {margin: 0; padding: .5em .8em; border-radius: .4em; background: #e8f1fc; color: #14385f}
.status p.refused {background: #fdecea; color: #7a1c12}
"""
PROGRESS = gr.Progress()
INTRODUCTION = f"""# What is hidden behind?
Give a photo, point at an object that something hides in part, and see the whole object. Your files stay on the computer
that serves this page, and are deleted there after an hour.

{", ".join(dict.fromkeys(TYPES.values()))}, at most {MEGABYTES} MB and {MEGAPIXELS} megapixels."""

Update = dict[Any, Any]
"""Component -> its new value; other components are unchanged."""


def build_page(models: Mapping[str, AmodalModel], examples: Sequence[Path]) -> gr.Blocks:
    """Lay out the page and connect it.

    Args:
        models: by the names that the page displays; the first is selected.
        examples: files of example pictures.
    """
    with gr.Blocks(title="amodalseg", analytics_enabled=False, delete_cache=(60, KEPT)) as page:
        at = _Parts(list(models), [str(path) for path in examples])
        _connect(at, models, examples)
    page.queue(max_size=WAITING, default_concurrency_limit=1)
    return page


class _Parts:
    """The components, from top to bottom."""

    def __init__(self, models: list[str], examples: list[str]) -> None:
        self.path, self.kept, self.current = gr.State(None), gr.State([]), gr.State(None)
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(min_width=320):
                gr.Markdown("## 1. Photo")
                self.photo = gr.Image(
                    label="Photo: upload or paste", sources=["upload", "clipboard"], type="filepath", image_mode=None,
                    height=260, buttons=[], elem_id="photo", alt_text="Your photo",
                )  # fmt: skip
                # as uploaded: read_photo checks its header before anything decodes it
                self.photo.preprocess = _path_of
                gr.Markdown("Or one of these drawn scenes:")
                with gr.Row():
                    self.examples = [
                        gr.Button(f"Example {place}", icon=path, size="sm", min_width=90)
                        for place, path in enumerate(examples, start=1)
                    ]
                self.photo_status = gr.HTML(_status("No photo yet."), elem_classes="status", elem_id="photo_status")
                gr.Markdown("## 2. Object")
                with gr.Tabs():
                    with gr.Tab("Click or box"):
                        self.kind = gr.Radio([ON, OFF, CORNER], value=ON, label="A click in the photo below is")
                        with gr.Row():
                            self.points = gr.Textbox(
                                label="Points: X,Y or X,Y,0 (beside)", max_lines=1, elem_id="points"
                            )
                            self.box = gr.Textbox(label="Box: X0,Y0,X1,Y1", max_lines=1, elem_id="box")
                    with gr.Tab("Brush"):
                        self.editor = gr.ImageEditor(
                            label="Paint over what is visible of the object", type="numpy", image_mode="RGBA",
                            format="png", sources=[], transforms=[], layers=False, buttons=[], elem_id="editor",
                            brush=gr.Brush(default_size=16, colors=["#2678e1"], color_mode="fixed"), height=420,
                            canvas_size=(320, 240),  # replaced by the photo's size once there is one
                        )  # fmt: skip
                        self.take_brush = gr.Button("Use the brushed area")
                    with gr.Tab("Mask file"):
                        self.mask_file = gr.File(
                            label="Mask of the photo's size, white on black, or with labels", file_types=MASK_TYPES,
                            type="filepath", height=120, elem_id="mask_file",
                        )  # fmt: skip
                self.canvas = gr.Image(
                    label="Click here", interactive=False, format="jpeg", buttons=[], elem_id="canvas",
                    alt_text="The photo with what is marked",
                )  # fmt: skip
                self.object_status = gr.HTML(elem_classes="status", elem_id="object_status")
                with gr.Row():
                    self.again = gr.Button("Start over", min_width=140)
                    self.another = gr.Button("Keep, mark another", min_width=140)
            with gr.Column(min_width=320):
                gr.Markdown("## 3. Complete")
                self.model = gr.Dropdown(models, value=models[0], label="Model", elem_id="model")
                with gr.Row():
                    self.steps = gr.Number(0, label="Steps (0: its own)", precision=0, minimum=0, min_width=96)
                    self.samples = gr.Number(1, label="Samples", precision=0, minimum=1, min_width=96)
                    self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=96)
                for field in (self.steps, self.samples, self.seed):
                    field.preprocess = _as_sent  # gradio would fail on a client that sends text
                self.complete = gr.Button("Complete", variant="primary", elem_id="complete")
                self.answer_status = gr.HTML(elem_classes="status", elem_id="answer_status")
                self.slider = gr.ImageSlider(
                    label="Before and after: visible blue, hidden orange", format="jpeg", interactive=False, buttons=[],
                    elem_id="slider",
                )  # fmt: skip
                self.gallery = gr.Gallery(
                    label="Masks, cut-outs, uncertainty", show_label=False, format="png", columns=3, interactive=False,
                    object_fit="contain", buttons=["fullscreen"], elem_id="gallery",
                )  # fmt: skip
                self.files = gr.File(label="Files", file_count="multiple", interactive=False, elem_id="files")


def _connect(at: _Parts, models: Mapping[str, AmodalModel], examples: Sequence[Path]) -> None:
    marked = [at.canvas, at.object_status, at.current, at.kept]
    entered = [at.path, at.kept, at.points, at.box]

    def load(path: str | None) -> Update:
        fresh: Update = {at.path: None, at.kept: [], at.current: None, at.points: "", at.box: "", at.canvas: None,
                 at.editor: None, at.mask_file: None, at.object_status: "", at.slider: None, at.gallery: None,
                 at.files: None, at.answer_status: ""}  # fmt: skip
        if path is None:
            return {**fresh, at.photo_status: _status("No photo yet.")}
        try:
            photo = read_photo(Path(path))
        except UserError as error:
            return {**fresh, at.photo_status: _refused(error)}
        height, width = photo.shape[:2]
        paper = {"background": shrunk(photo, BRUSHED), "layers": [], "composite": None}
        return {**fresh, at.path: path, at.canvas: shrunk(photo), at.editor: paper,
                at.photo_status: _status(f"{width} x {height} pixels. Now click on an object in step 2.")}  # fmt: skip

    def mark(path: str | None, kept: list[Rle], points: str, box: str) -> Update:
        photo = _photo(path)
        marks = read_marks(points, box, *photo.shape[:2])
        if not marks.box and not any(label for _, _, label in marks.points):
            said = "Now the opposite corner." if marks.corner else "Click on the object."
            return {**_shown(photo, kept, None, marks), at.object_status: _status(said)}
        mask = amodalseg.select(photo, points=marks.points or None, box=marks.box)
        return _shown(photo, kept, mask, marks)

    def click(path: str | None, kept: list[Rle], points: str, box: str, kind: str, event: gr.SelectData) -> Update:
        photo = _photo(path)
        height, width = photo.shape[:2]
        shown = shrunk(photo).shape[:2]
        x, y = (float(number) + 0.5 for number in event.index)
        points, box = clicked(points, box, kind, min(width - 1, int(x * width / shown[1])),
                              min(height - 1, int(y * height / shown[0])))  # fmt: skip
        return {**mark(path, kept, points, box), at.points: points, at.box: box}

    def brush(path: str | None, kept: list[Rle], painted: dict[str, Any] | None) -> Update:
        photo = _photo(path)
        mask = brushed(painted["layers"] if painted else [], *photo.shape[:2])
        return {**_shown(photo, kept, mask, Marks([], None)), at.points: "", at.box: ""}

    def take_file(path: str | None, kept: list[Rle], file: str) -> Update:
        photo = _photo(path)
        found, note = read_masks(Path(file), Path(path or ""))
        *others, last = found
        kept = [*kept, *map(masks.encode, others)]
        shown = _shown(photo, kept, last, Marks([], None), note)
        return {**shown, at.points: "", at.box: "", at.kept: kept}

    def _shown(photo: np.ndarray, kept: list[Rle], mask: np.ndarray | None, marks: Marks, note: str = "") -> Update:
        picture = marked_picture(photo, [masks.decode(rle) for rle in kept], mask, marks)
        beside = f" {len(kept)} other {'objects are' if len(kept) > 1 else 'object is'} kept." if kept else ""
        said = "Click on an object." if mask is None else f"{int(mask.sum()):,} pixels marked.{note}"
        current = None if mask is None else masks.encode(mask)
        return {at.canvas: picture, at.current: current, at.object_status: _status(said + beside)}

    def again(path: str | None, kept: list[Rle]) -> Update:
        return {**_shown(_photo(path), kept, None, Marks([], None)), at.points: "", at.box: "", at.mask_file: None}

    def another(path: str | None, kept: list[Rle], current: Rle | None) -> Update:
        if current is None:
            raise UserError("mark this object first")
        if len(kept) + 1 >= OBJECTS:
            raise UserError(f"the demo completes {OBJECTS} objects at once")
        return {**again(path, [*kept, current]), at.kept: [*kept, current]}

    def complete(
        path: str | None, kept: list[Rle], current: Rle | None, name: str, steps: Any, samples: Any, seed: Any,
        progress: Any = PROGRESS,
    ) -> Iterator[Update]:  # fmt: skip
        objects = [*kept, *([] if current is None else [current])]
        try:
            photo = _photo(path)
            if name not in models:
                raise UserError(f"there is no model '{name}' here")
            with tempfile.TemporaryDirectory() as folder:  # gradio has copied the files when the generator continues
                found = answer(
                    photo, objects, models[name], Path(folder), seed=_integer(seed), num_samples=_integer(samples),
                    steps=_integer(steps), progress=lambda done: progress((done, len(objects)), unit="objects"),
                )  # fmt: skip
                yield {
                    at.slider: (found.before, found.after), at.gallery: found.pictures,
                    at.files: [str(file) for file in found.files], at.answer_status: _status("\n".join(found.text)),
                }  # fmt: skip
        except UserError as error:
            yield {at.answer_status: _refused(error)}

    everything = [
        at.path, *marked, at.points, at.box, at.editor, at.mask_file, at.photo_status, at.slider, at.gallery, at.files,
        at.answer_status,
    ]  # fmt: skip
    object_refused = functools.partial(_showing_errors, at.object_status)
    one = {"concurrency_id": "one", "concurrency_limit": 1}  # for all functions together: memory of a single request
    at.photo.change(load, at.photo, everything, api_name="photo", show_progress_on=at.photo_status, **one)
    for button, path in zip(at.examples, examples, strict=True):
        button.click(functools.partial(str, path), None, at.photo, api_name=False)
    both: dict[str, Any] = {"outputs": [*marked, at.points, at.box], "show_progress_on": at.object_status, **one}
    at.canvas.select(object_refused(click), [*entered, at.kind], **both, api_name=False)
    for field, name in ((at.points, "mark"), (at.box, False)):
        field.submit(object_refused(mark), entered, **both, api_name=name)
    at.take_brush.click(object_refused(brush), [at.path, at.kept, at.editor], **both, api_name=False)
    at.mask_file.upload(object_refused(take_file), [at.path, at.kept, at.mask_file], **both, api_name="mask_file")
    both["outputs"] = [*both["outputs"], at.mask_file]
    at.again.click(object_refused(again), [at.path, at.kept], **both, api_name=False)
    at.another.click(object_refused(another), [at.path, at.kept, at.current], **both, api_name="another")
    at.complete.click(
        complete, [at.path, at.kept, at.current, at.model, at.steps, at.samples, at.seed],
        [at.slider, at.gallery, at.files, at.answer_status], api_name="complete", show_progress_on=at.answer_status,
        **one,
    )  # fmt: skip


def _showing_errors(status: Any, work: Callable[..., Update]) -> Callable[..., Update]:
    """The same function, but a mistake is displayed as one line instead of raised."""

    @functools.wraps(work)
    def run(*given: Any) -> Update:
        try:
            return work(*given)
        except UserError as error:
            return {status: _refused(error)}

    return run


def _photo(path: str | None) -> np.ndarray:
    if path is None:
        raise UserError("give a photo first")
    return read_photo(Path(path))


def _path_of(payload: Any) -> str | None:
    return None if payload is None else payload.path


def _as_sent(payload: Any) -> Any:
    return payload


def _integer(number: Any) -> Any:
    """A number as the page sends it; values that are not whole are left for later checks."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _status(text: str) -> str:
    return f'<p role="status">{html.escape(text).replace(chr(10), "<br>")}</p>'


def _refused(error: UserError) -> str:
    return f'<p role="alert" class="refused">{html.escape(str(error))}</p>'
