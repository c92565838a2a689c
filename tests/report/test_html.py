"""page: one file that holds against any text, and works in a browser: filters, search, keys, both themes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from builders import random_scored, scored, write_video

from rbft_plugin.report import html as page
from rbft_plugin.report import plots as charts
from rbft_plugin.report import save_plots as pictures
from rbft_plugin.report.build import summarize
from rbft_plugin.report.clip_strips import Video
from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.report.view_model import Origin

HOSTILE = (
    "</script><script>window.hacked = 1</script><!-- <script>",
    "<img src=x onerror='window.hacked = 1'> &amp; \u2028 {{ 7 * 7 }}",
    '"><svg onload=window.hacked=1> javascript:window.hacked=1',
)
N = 60


def hostile_page(clip: Path) -> tuple[str, list[Evaluation], dict[str, Any]]:
    """A page whose labels, arms, answers, rationales and sources all try to be markup; its data and its report."""
    arms = {"zero_shot": (0,), "direct_sft": (0, 1), HOSTILE[2]: (0, 1)}
    evaluations = [
        Evaluation(
            one.arm, one.seed, one.ids, one.targets, one.predictions,
            tuple(f"{answer} {HOSTILE[0]}" if one.seed else answer for answer in one.answers),
            one.labels, one.dataset, one.probabilities,
        )
        for one in random_scored(HOSTILE, N, arms)
    ]  # fmt: skip
    videos = [
        Video(i, "test", target, clip, f"raw/{i} {HOSTILE[1]}.mp4", 4.0)
        for i, target in zip(evaluations[0].ids, evaluations[0].targets, strict=True)
    ]
    videos += [
        Video(f"train{n}", "train", None, clip, "raw", None, f"{text} because {n}") for n, text in enumerate(HOSTILE)
    ]
    extra = {
        "models": {HOSTILE[1]: HOSTILE[0]},
        "versions": {"x": HOSTILE[0]},
        "notes": [HOSTILE[0]],
        "provenance": {
            "facts": {HOSTILE[0]: HOSTILE[1]},
            "steps": [
                {
                    "name": HOSTILE[0],
                    "command": HOSTILE[1],
                    "began": None,
                    "seconds": 3.0,
                    "tokens_in": 1,
                    "tokens_out": None,
                }
            ],
            "recipes": {"r.yaml": HOSTILE[0]},
            "missing": [HOSTILE[2]],
        },
    }
    report = summarize(evaluations, Origin.model_validate(extra))
    return page.render(report, evaluations, videos, {}), evaluations, report


class Elements(HTMLParser):
    """Elements with their attributes, and the text outside of scripts, as a browser would read them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def data_of(html: str) -> dict[str, Any]:
    (block,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(block)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Evaluation], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("page")
    html, evaluations, report = hostile_page(write_video(folder / "clip.mp4", seconds=2))
    (folder / "index.html").write_text(html, encoding="utf-8")
    return folder / "index.html", evaluations, report


def test_all_text_is_escaped_and_the_data_comes_back_as_it_was(made: Any) -> None:
    path, evaluations, _ = made
    html = path.read_text(encoding="utf-8")
    elements = Elements(html)
    tags = [tag for tag, _ in elements.found]
    assert (tags.count("script"), tags.count("style"), tags.count("img")) == (2, 1, 0)  # images are made by the script
    assert {tag for tag, _ in elements.found} & {"iframe", "object", "embed", "base", "frame"} == set()
    for tag, attributes in elements.found:
        names = set(attributes)
        assert not any(name.startswith("on") for name in names) and "style" not in names, (tag, attributes)
        assert not any(str(attributes.get(name)).startswith("javascript:") for name in ("href", "src", "action"))
    data = data_of(html)
    assert data["labels"] == list(HOSTILE)
    assert [row["answers"][4][1] for row in data["videos"][:N]] == list(evaluations[4].answers)
    assert data["videos"][N]["rationale"] == f"{HOSTILE[0]} because 0"


def test_the_policy_allows_this_style_and_script_alone(made: Any) -> None:
    html = made[0].read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#39;", "'").split(";"))
    assert set(rules) == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind, tag in (("style-src", "style"), ("script-src", "script")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert rules[kind] == f"'{page._hash(content)}'"
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)


def test_long_texts_are_cut_and_say_so() -> None:
    one = scored("rbft", ("a", "b", None), answers=("x" * 4000, "y" * 4003, "z"))
    rows = data_of(page.render(summarize([one]), [one], [], {}))["videos"]
    assert [row["answers"][0][1][-40:] for row in rows] == [
        "x" * 40,
        "y" * 8 + "… (3 more characters in the log)",
        "z",
    ]


def test_probabilities_are_the_highest_three_and_display_names_are_shown() -> None:
    one = scored("rbft", ("a",), labels=("a", "b", "c", "d"), probabilities=((0.1, 0.2, 0.3, 0.4),))
    data = data_of(page.render(summarize([one], Origin(display={"a": "Apfel"})), [one], [], {}))
    assert data["labels"] == ["Apfel", "b", "c", "d"]
    assert data["videos"][0]["answers"] == [[0, "The answer is a.", [[3, 0.4], [2, 0.3], [1, 0.2]]]]


def test_accuracy_without_the_video_has_a_line_and_a_column_where_an_arm_has_it() -> None:
    blind = scored("rbft", tuple("aaabbb"), without_video=tuple("aaaaab"))
    plain = scored("zero_shot", tuple("aaabba"))
    html = page.render(summarize([plain, blind]), [plain, blind], [], {})
    assert html.count("<dt>without the video</dt><dd>66.7 %</dd>") == html.count("<dt>without the video</dt>") == 1
    rows = re.findall(r'<tr><th scope="row">(\w+)</th>(.*?)</tr>', html, re.DOTALL)[:2]
    last = [
        re.sub(r"\s+", " ", re.sub("<[^>]*>", "", re.findall("<td>.*?</td>", cells, re.DOTALL)[-1]))
        for _, cells in rows
    ]
    assert [text.strip() for text in last] == ["–", "66.7 30.0 to 90.3"]
    assert "without the video" not in page.render(summarize([plain]), [plain], [], {})


def test_pictures_stand_in_the_page_in_its_colours(tmp_path: Path) -> None:
    one = scored("<b>rbft</b>", ("a", "b", None))
    svg = page.themed(pictures.draw(summarize([one]), tmp_path)[1]["accuracy"], "accuracy")
    assert svg.startswith("<svg ") and 'role="img"' in svg
    assert not re.search(r"style=|<style|<!--|<\?xml|DOCTYPE|<metadata", svg)
    assert "&lt;b&gt;rbft&lt;/b&gt;</text>" in svg
    assert charts.INK not in svg and "currentColor" in svg and "var(--line)" in svg and 'fill="#5b91c4"' in svg
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    assert used and used == set(re.findall(r'\bid="([^"]+)"', svg)) and all(i.startswith("accuracy-") for i in used)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_in_both_themes(theme: str) -> None:
    css = page.ASSETS.joinpath("page.css").read_text(encoding="utf-8")
    blocks = [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in re.findall(r"\{([^{}]*--bg:[^{}]*)\}", css)
    ]
    light, by_system, by_choice, _ = blocks
    assert by_system == by_choice
    colours = light if theme == "light" else by_choice

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for text in ("ink", "muted", "accent", "good", "bad", "none"):
        for ground in ("bg", "panel", "sunk"):
            one, other = sorted((luminance(colours[text]), luminance(colours[ground])))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (text, ground)  # WCAG 2, level AA


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not path:
        said = "no chromium on PATH, so the page is not tested in a browser (Debian: apt-get install chromium)"
        pytest.fail(said) if os.environ.get("RBFT_TEST_BROWSER") == "required" else pytest.skip(said)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(chromium: Any, made: Any) -> Iterator[Any]:
    """The page in a tab; afterwards: no error was logged, nothing ran that should not, nothing left the file."""
    tab, said, asked = chromium.new_page(viewport={"width": 1200, "height": 900}, reduced_motion="reduce"), [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(made[0].as_uri())
    yield tab
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [made[0].as_uri()]
    assert tab.evaluate("window.hacked") is None
    tab.close()


def count(tab: Any) -> int:
    return int(tab.locator("#count").inner_text().split(" ")[0])


def outcomes(runs: list[Evaluation], new: int, old: int) -> dict[str, int]:
    a, b = ([p == t for p, t in zip(run.predictions, run.targets, strict=True)] for run in (runs[new], runs[old]))
    pairs = list(zip(a, b, strict=True))
    silent = sum(p is None for p in runs[new].predictions)
    return {"fixed": pairs.count((True, False)), "broken": pairs.count((False, True)), "silent": silent}


@pytest.mark.browser
def test_filters_search_and_order(opened: Any, made: Any) -> None:
    _, runs, report = made
    assert count(opened) == N
    assert opened.get_by_label("Model").input_value() == "4" and opened.get_by_label("Against").input_value() == "2"
    expected = outcomes(runs, 4, 2)
    (last,) = [c for c in report.comparisons if (c.arm, c.against) == (HOSTILE[2], "direct_sft")]
    assert [(p.fixed, p.broken) for p in last.per_seed][1] == (expected["fixed"], expected["broken"])
    for change, number in expected.items():
        opened.get_by_label("Outcome").select_option(change)
        assert count(opened) == number, change
    opened.get_by_label("Model").select_option("0")
    assert count(opened) == outcomes(runs, 0, 2)["silent"]
    opened.get_by_role("button", name="Clear").click()

    opened.get_by_label("Class", exact=True).select_option("1")
    assert count(opened) == runs[0].targets.count(HOSTILE[1])
    targets = opened.locator(".clip .target b").all_inner_texts()
    assert {" ".join(text.split()) for text in targets} == {" ".join(HOSTILE[1].split())}
    opened.get_by_role("button", name="Clear").click()

    opened.get_by_label("Search").fill("CLIP7 raw")
    assert count(opened) == 1 and opened.locator(".clip h3").inner_text() == "clip7"
    opened.get_by_label("Search").fill("nothing is like this")
    assert count(opened) == 0 and "No clip is like that" in opened.locator("#list").inner_text()
    opened.get_by_role("button", name="Clear").click()

    opened.get_by_label("Order").select_option("unsure")
    said = [float(text.split("%")[0]) for text in opened.locator(".clip li:nth-child(5) .p").all_inner_texts()]
    assert len(said) == 24 and said == sorted(said)


@pytest.mark.browser
def test_training_videos_have_their_rationale(opened: Any) -> None:
    opened.get_by_label("Split").select_option("train")
    assert count(opened) == 3
    said = opened.locator(".rationale").all_text_contents()
    assert said == [f"{text} because {n}" for n, text in enumerate(HOSTILE)]
    assert opened.locator(".clip .answers").count() == 0


@pytest.mark.browser
def test_frames_are_there_and_no_other_picture(opened: Any) -> None:
    widths = opened.evaluate("Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))")
    assert len(widths) == 24 and min(widths) > 100
    assert opened.locator("img:not([src^='data:image/jpeg;base64,'])").count() == 0
    assert opened.locator("#list script, #list svg").count() == 0


@pytest.mark.browser
def test_keys(opened: Any, made: Any) -> None:
    expected = outcomes(made[1], 4, 2)
    press, focused = opened.keyboard.press, "document.activeElement.querySelector('h3')?.textContent"
    press("j"), press("j")
    assert opened.evaluate(focused) == "clip1"
    press("k")
    assert opened.evaluate(focused) == "clip0"
    press("k")
    assert opened.evaluate(focused) == "clip0"
    assert not opened.locator(".clip .more").first.is_visible()
    press("Enter")
    assert opened.locator(".clip.open .more").first.is_visible()
    press("n")
    assert opened.locator(".where").first.inner_text() == "25 to 48"
    press("p")
    for _ in range(25):
        press("j")  # beyond the last one of a page
    assert opened.evaluate(focused) == "clip24"
    press("k")
    assert opened.evaluate(focused) == "clip23"
    for key, change in (("f", "fixed"), ("b", "broken"), ("u", "silent")):
        press(key)
        assert count(opened) == expected[change]
    press("c")
    assert count(opened) == N
    press("/")
    opened.keyboard.type("clip33 jkf?")  # typed, not obeyed
    assert opened.get_by_label("Search").input_value() == "clip33 jkf?"
    press("Escape"), press("c"), press("?")
    assert opened.get_by_role("dialog").is_visible()
    press("Escape")
    assert not opened.get_by_role("dialog").is_visible()


@pytest.mark.browser
def test_the_counts_of_a_comparison_show_their_clips(opened: Any, made: Any) -> None:
    shown = made[2].comparisons
    for place, comparison in enumerate(shown):
        for number, pair in enumerate(comparison.per_seed):
            row = opened.locator(".comparison").nth(place).locator(".pairs li").nth(number)
            for change in ("fixed", "broken"):
                row.get_by_role("button", name=change).click()
                assert count(opened) == getattr(pair, change)


@pytest.mark.browser
def test_themes_and_a_narrow_screen(opened: Any) -> None:
    def ground() -> str:
        return opened.evaluate("getComputedStyle(document.body).backgroundColor")

    opened.emulate_media(color_scheme="light")
    light = ground()
    opened.emulate_media(color_scheme="dark")
    dark = ground()
    assert light == "rgb(253, 253, 252)" and dark == "rgb(18, 21, 24)"
    opened.get_by_role("button", name="Theme").click()
    assert ground() == light
    opened.get_by_role("button", name="Theme").click()
    assert ground() == dark
    opened.emulate_media(media="print")
    assert ground() == "rgb(255, 255, 255)"  # on paper it is never dark
    opened.emulate_media(media="screen")
    for width in (320, 390, 800):
        opened.set_viewport_size({"width": width, "height": 700})
        assert opened.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.browser
def test_with_many_seeds_a_card_has_a_row_an_arm_until_it_is_opened(chromium: Any, tmp_path: Path) -> None:
    said = [("a", None, "b"), ("a", "b", "b"), ("b", "b", "b"), ("b", "a", "b")]
    runs = [scored("direct_sft", ("a", "a", "a"))]
    runs += [scored("rbft", said[seed // 2], seed=seed) for seed in range(8)]
    path = tmp_path / "index.html"
    path.write_text(page.render(summarize(runs), runs, [], {}), encoding="utf-8")
    tab = chromium.new_page()
    tab.goto(path.as_uri())
    shown = [card.locator(".answers li:visible").all_inner_texts() for card in tab.locator(".clip").all()]
    assert [[" ".join(row.split()) for row in rows] for rows in shown] == [
        ["✓ direct_sft a", "± rbft a × 4, b × 4"],
        ["✓ direct_sft a", "± rbft b × 4, no answer × 2, a × 2"],
        ["✓ direct_sft a", "✗ rbft b × 8"],
    ]
    tab.keyboard.press("j"), tab.keyboard.press("Enter")
    rows = tab.locator(".clip").first.locator(".answers li:visible")
    assert rows.count() == 9 and " ".join(rows.nth(8).inner_text().split()).startswith("✗ rbft, seed 7 b")
    assert not tab.locator(".pairs").is_visible()
    tab.get_by_text("Fixed and broken, seed by seed").click()
    tab.get_by_role("button", name="2 broken").first.click()
    assert count(tab) == 2
    tab.close()


@pytest.mark.browser
def test_five_thousand_clips_stay_fast(chromium: Any, tmp_path: Path) -> None:
    evaluations = random_scored(tuple(f"class {n}" for n in range(20)), 5000, {"sft": (0,), "rbft": (0, 1)})
    path = tmp_path / "index.html"
    path.write_text(page.render(summarize(evaluations), evaluations, [], {}), encoding="utf-8")
    tab = chromium.new_page()
    tab.goto(path.as_uri())
    assert count(tab) == 5000 and tab.locator(".clip").count() == 24
    took = tab.evaluate(
        """() => {
          const time = (act) => { const began = performance.now(); act(); return performance.now() - began; };
          const change = (id, value, kind) => { const field = document.getElementById(id); field.value = value;
            field.dispatchEvent(new Event(kind)); };
          return [time(() => change("q", "class 1", "input")), time(() => change("change", "fixed", "change")),
            time(() => change("sort", "unsure", "change"))];
        }"""
    )
    assert max(took) < 1000, took  # some 20 ms on an idle machine
    tab.close()


@pytest.mark.browser
def test_many_comparisons_are_a_line_each_until_opened_or_printed(chromium: Any, tmp_path: Path) -> None:
    runs = random_scored(("a", "b"), 20, dict.fromkeys(("zero_shot", "direct_sft", "rbft", "control"), (0,)))
    assert 'class="folded"' not in page.render(summarize(runs), runs, [], {})
    runs.append(dataclasses.replace(runs[0], arm="fifth"))
    report = summarize(runs)
    path = tmp_path / "index.html"
    path.write_text(page.render(report, runs, [], {}), encoding="utf-8")
    tab = chromium.new_page()
    tab.goto(path.as_uri())
    heads = tab.locator(".comparison h3").all_inner_texts()
    assert [" ".join(head.split()) for head in heads[:3]] == [
        "rbft against direct_sft", "control against direct_sft", "fifth against direct_sft",
    ]  # fmt: skip
    sentences = tab.locator(".comparison .sentence")
    assert len(report.comparisons) == sentences.count() == 10
    assert [one.is_visible() for one in sentences.all()] == [True] + [False] * 9
    tab.locator(".folded > summary").nth(1).click()
    assert sentences.nth(1).inner_text() == report.comparisons[1].sentence
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(one.is_visible() for one in sentences.all())
    tab.close()
