"""index.html: the report as one file that needs nothing else: no network, no other file, works from file://.

Text of models and annotations is data here. Jinja escapes what stands in the markup; what the browser of clips shows
lies as JSON in a data block and reaches the page as text nodes only. A Content-Security-Policy allows this file's own
script and style by their hashes, images from data: URIs, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

from rbft_plugin.report import clip_strips, doubtful_labels, fit, plots, prose, rationale_table, selection_prose
from rbft_plugin.report.clip_strips import Video
from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.report.markdown import TITLES
from rbft_plugin.report.view_model import Comparison, Report
from rbft_plugin.scoring.metrics import metrics_of

ASSETS = files("rbft_plugin") / "report" / "page"
LONGEST = 4000  # characters of an answer or rationale in the page; the logs have them whole
TOP = 3  # probabilities of an answer that are shown
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
COLOURS = {
    plots.INK: "currentColor", plots.FAINT: "var(--line)", plots.LIGHT: "var(--pale)", plots.EDGE: "var(--edge)",
    "#ffffff": "none", "white": "none",
}  # fmt: skip


def render(
    report: Report, evaluations: Sequence[Evaluation], videos: Sequence[Video], pictures: Mapping[str, str]
) -> str:
    """The page; `pictures` are {name: SVG} as `pictures.draw` gives them."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style, script = (ASSETS.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "percent": prose.percent,
        "points": prose.points,
        "p_value": prose.p_value,
        "duration": prose.duration,
    }
    template = environment.from_string(ASSETS.joinpath("index.html.jinja").read_text(encoding="utf-8"))
    strips = clip_strips.strips(videos)
    return template.render(
        report=report,
        metrics=metrics_of("predictions"),
        probability_metrics=metrics_of("probabilities"),
        shown=report.label_titles,
        arm_name=prose.arm_name,
        fit_explained=fit.explained(report),
        fit_sentences=fit.sentences(report),
        majority=prose.majority(report),
        chosen=selection_prose,
        rationale_head=rationale_table.HEAD,
        rationale_rows=rationale_table.rows(report),
        readings=prose.readings(report),
        reading_head=prose.READING,
        reach=_reach(report.comparisons),
        pictures=[(name, TITLES[name], Markup(themed(svg, name))) for name, svg in pictures.items()],
        strips_said=strips.said,
        strips=strips.of,
        doubtful_said=doubtful_labels.explained(report.doubtful_labels) if report.doubtful_labels else "",
        data=Markup(in_script(_data(report, evaluations, videos, strips.of))),
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def in_script(content: Any) -> str:
    """JSON that can stand in a <script> element: no "<" that could end it or open a comment."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def themed(svg: str, name: str) -> str:
    """matplotlib's SVG to stand in the page: its ink and grid take the page's colours, in light and in dark.

    The page's policy forbids style attributes, so they become presentation attributes. Ids are made the picture's own.
    """
    root = ElementTree.fromstring(re.sub(r"<!DOCTYPE[^>]*>", "", svg))
    used = set(re.findall(r"#([\w-]+)", " ".join(v for e in root.iter() for v in e.attrib.values())))
    for parent in root.iter():
        for child in [c for c in parent if c.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style")]:
            parent.remove(child)
    for element in root.iter():
        text = element.tag == f"{{{SVG}}}text"
        for rule in element.attrib.pop("style", "").split(";"):
            key, _, value = (part.strip() for part in rule.partition(":"))
            for attribute, said in _font(value).items() if key == "font" else ((key, value),):
                if attribute:
                    element.set(attribute, said)
        for paint in ("fill", "stroke"):
            colour = element.get(paint, "")
            if colour in COLOURS and not (text and COLOURS[colour] == "none"):  # white text is on something dark
                element.set(paint, COLOURS[colour])
        if text and not element.get("fill"):
            element.set("fill", "currentColor")
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.set("id", f"{name}-{identity}")
        for key, value in element.attrib.items():
            pattern = r"^()#(.+)" if key.endswith("href") else r"(url\()#([^)]+)"
            element.set(key, re.sub(pattern, rf"\1#{name}-\2", value))
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", TITLES[name])
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _font(value: str) -> dict[str, str]:
    """The CSS shorthand "10px 'DejaVu Sans', sans-serif" as attributes; the family is the page's own."""
    size = re.search(r"([\d.]+)px", value)
    weight = re.search(r"\b(bold|[1-9]00)\b", value)
    return ({"font-size": size.group(1)} if size else {}) | ({"font-weight": weight.group(1)} if weight else {})


def _reach(comparisons: Sequence[Comparison]) -> float:
    """Half the width of the axis of differences, a multiple of 0.1 that holds every interval."""
    most = max((abs(bound) for one in comparisons for bound in one.ci95), default=0.0)
    return max(0.1, -(-most // 0.1) * 0.1)


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _data(
    report: Report, evaluations: Sequence[Evaluation], videos: Sequence[Video], strips: Mapping[str, str]
) -> dict[str, Any]:
    """What the browser of clips shows; labels are positions in `labels`, -1 for none."""
    arms = list(report.arms)
    runs = sorted(evaluations, key=lambda run: (arms.index(run.arm), run.seed))
    several = {run.arm for run in runs if len(report.arms[run.arm].seeds) > 1}
    answers = [_answers(run) for run in runs]
    position = {label: number for number, label in enumerate(report.labels)}
    tested = dict(zip(runs[0].ids, runs[0].targets, strict=True))
    known = {video.id for video in videos}
    shown = [video for video in videos if video.split != report.split or video.id in tested]
    rows = [
        {
            "id": video.id,
            "split": video.split,
            "label": position.get(video.label, -1) if video.label is not None else -1,
            "source": video.source,
            "seconds": video.seconds,
            "rationale": None if video.rationale is None else _cut(video.rationale),
            "strip": strips.get(video.id, ""),
            "answers": [of[video.id] for of in answers] if video.split == report.split else [],
        }
        for video in shown
    ] + [
        {"id": i, "split": report.split, "label": position[target], "source": "", "seconds": None, "rationale": None,
         "strip": "", "answers": [of[i] for of in answers]}
        for i, target in tested.items() if i not in known
    ]  # fmt: skip
    return {
        "scored": report.split,
        "labels": list(report.label_titles.values()),
        "runs": [
            {"name": run.name if run.arm in several else run.arm, "arm": run.arm, "seed": run.seed} for run in runs
        ],
        "videos": rows,
    }


def _answers(run: Evaluation) -> dict[str, list[Any]]:
    """{id: [prediction, text, [[label, probability], ...]]}, the most probable labels first."""
    position = {label: number for number, label in enumerate(run.labels)}
    answers = {}
    for row, sample in enumerate(run.ids):
        prediction = run.predictions[row]
        probabilities = run.probabilities[row] if run.probabilities else ()
        top = sorted(enumerate(probabilities), key=lambda pair: -pair[1])[:TOP]
        text = _cut(run.answers[row])
        answers[sample] = [-1 if prediction is None else position[prediction], text, [[n, round(p, 4)] for n, p in top]]
    return answers


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text) - LONGEST} more characters in the log)"
