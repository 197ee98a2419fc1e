"""The frame of every HTML page, which needs no other file."""

from __future__ import annotations

import base64
import html

from amodalseg.report.pictures import COMPLETED, VISIBLE

STYLE = """
:root { color-scheme: light dark; --ink: #1d242c; --soft: #5b6673; --line: #dfe4ea; --paper: #fff; --card: #f6f8fa;
  --accent: #2678e1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e9ee; --soft: #9aa5b1; --line: #343c46; --paper: #14181d;
  --card: #1c2229; --accent: #6aa8f5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 40px 28px 64px; color: var(--ink); background: var(--paper);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; margin: 0 0 2px; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 44px 0 10px; padding-bottom: 6px; border-bottom: 1px solid var(--line); }
h3 { font-size: 15px; margin: 22px 0 8px; }
p { margin: 8px 0; max-width: 78ch; }
p.soft, figcaption, small, .source { color: var(--soft); }
code { font: 12.5px/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; margin: 10px 0; }
th, td { padding: 7px 6px; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
thead th { font-size: 12.5px; font-weight: 500; color: var(--soft); vertical-align: bottom; }
tbody th { font-weight: 500; } th:first-child { text-align: left; overflow-wrap: anywhere; min-width: 13ch; }
td small { display: block; font-size: 11.5px; white-space: nowrap; } strong { color: var(--accent); }
th small { display: block; font-size: 11.5px; font-weight: 400; white-space: normal; width: 46ch; }
th:has(small) { white-space: normal; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 14px; margin: 16px 0; }
.card { background: var(--card); border-radius: 8px; padding: 12px 16px; font-size: 13.5px; }
.card p { margin: 6px 0 0; } .source { font-size: 12px; }
figure { margin: 14px 0; } figure img { max-width: 100%; border-radius: 8px; display: block; background: #fff; }
figcaption { font-size: 12.5px; margin-top: 5px; overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin: 0 5px 0 14px; }
.swatch:first-child { margin-left: 0; }
details { margin-top: 20px; } summary { cursor: pointer; font-weight: 500; }
details table { width: auto; font-size: 13.5px; } details th, details td { padding: 3px 14px; }
details br { display: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 22px; font-size: 13.5px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
pre { margin: 0; white-space: pre-wrap; font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
"""


def html_page(title: str, body: str) -> str:
    """A complete HTML document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def color_legend(moves: bool = False, edits: bool = False) -> str:
    """Legend of the colours in object pictures. moves, edits: whether some show moves or edits."""

    def swatch(color: tuple[int, int, int]) -> str:
        return f'<span class=swatch style="background:rgb{color}"></span>'

    return (
        f"<p class=soft>{swatch(VISIBLE)}visible (modal) {swatch(COMPLETED)}hidden part: completed by the model, or "
        "known (truth). The white line in the predictions is the outline of the true amodal mask. Below a prediction: "
        "the photo with the completion pasted in, of the models that draw one."
        + (" Moves: whole photos; “before” outlines the visible part in blue and the target in orange." * moves)
        + (" Edits: “before” has the box of what is to stay in blue and that of what is edited in orange." * edits)
        + "</p>"
    )


def png_figure(png: bytes, caption: str) -> str:
    """A ``figure`` element with its PNG file embedded."""
    data = base64.b64encode(png).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
