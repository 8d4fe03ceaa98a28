"""The explorer in a real browser: its curves are the model's, a link restores a view, and everybody can use it.

Skipped where Playwright for Python, a Chromium or the built page is missing: see CONTRIBUTING.md.
"""

import io
import json
import shlex
import shutil
import urllib.parse
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ssm
from ssm import exact, spectral, step
from ssm.cli import commands, explorer, parsing
from ssm.config import profiles
from ssm.problem import make_problem

ROOT = Path(__file__).parents[1]
AXE = ROOT / "explorer" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
KEYS = {"ratio": "R", "fraction": "rho", "classes": "k", "smallest": "n"}
KEYS |= {"exponent": "g", "coupling": "c", "scale": "s", "loss": "loss"}
# The page's solver leaves out 3e-8 a step of a logarithm of what is compared, of margins up to some 50.
TOLERANCE = 1e-6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not explorer.PAGE.is_file(), reason="not built: make explorer"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path"),
]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox"
            ],  # which a container may not have, and a page of our own does not need
        )
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    """Open the page at an address' fragment. It has to say nothing on the console and to ask for nothing but itself."""
    said, asked, pages = [], [], []

    def open_page(fragment="", **how):
        page = browser.new_page(**how)
        pages.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(explorer.PAGE.as_uri() + fragment)
        page.wait_for_function("document.querySelector('#said').textContent")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not said
    assert all(url.startswith((explorer.PAGE.as_uri(), "data:", "blob:")) for url in asked)


def fragment(settings):
    return "#" + urllib.parse.urlencode({KEYS[name]: value for name, value in settings.items()})


def download(page, button):
    with page.expect_download() as found:
        page.click(button)
    return Path(found.value.path()).read_bytes()


def curves(page):
    """The page's curves, by run; when blocks and margins reach a half; the window; and the settings, as it says."""
    text = download(page, "#csv").decode()
    said = {}
    for line in text.splitlines():
        if line.startswith("# "):
            *name, value = line[2:].split(" ", 2 if "learned" in line else 1)
            said[" ".join(name)] = json.loads(value)
    table = pd.read_csv(io.StringIO(text), comment="#", dtype=float)
    return {name: table[name].to_numpy() for name in table.columns}, said


def settings_of(rng, loss):
    """A random place of every slider."""
    k = int(rng.integers(2, 21))
    return {
        "ratio": float(10 ** rng.uniform(0, 9)),
        "fraction": float(rng.uniform(0.05, 0.95)),
        "classes": k,
        "smallest": int(10 ** rng.uniform(0, 3)),
        "exponent": float(rng.uniform(0, 2)),
        "coupling": float(rng.uniform(0, 1) ** 4),
        "scale": float(10 ** rng.uniform(-8, -0.55)),
        "loss": loss,
    }


def problem_of(settings, exponent):
    k = settings["classes"]
    few = min(max(profiles.num_minority_classes(k, settings["fraction"]), 1), k - 1)
    return step.grid(
        settings["ratio"],
        exponent,
        settings["coupling"],
        num_classes=k,
        minority_fraction=few / k,
        minority_count=settings["smallest"],
    )


def off(found, expected):
    """The largest distance; NaN has to stand where NaN is expected."""
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    return np.nanmax(np.abs(found - expected), initial=0.0)


SETTINGS = [
    settings_of(np.random.default_rng(i), ("squared", "cross_entropy")[i % 2]) for i in range(30)
]


def test_curves_and_learning_times_are_those_of_the_exact_solutions(visit):
    """At 30 random places of all sliders, imbalance ratios up to 1e9, for ERM and for weights."""
    page = visit()
    for settings in SETTINGS:
        page.evaluate("address => location.hash = address", fragment(settings))
        page.wait_for_function("location.hash.includes('t=')")  # which it adds once it has drawn
        table, said = curves(page)
        assert said["settings"] == settings
        last = table["time"][-1]
        table = {name: values[::6] for name, values in table.items()}  # sixty times are as good
        times, start, groups = table["time"], settings["scale"] ** 2, {}
        for name, exponent in (("erm", 0.0), ("weighted", settings["exponent"])):
            problem, reached = problem_of(settings, exponent), said[f"{name} learned"]
            blocks = np.stack([table[f"{name}_{block}"] for block in spectral.BLOCKS], axis=1)
            margins = np.stack(
                [table[f"{name}_margin_{group}"] for group in profiles.GROUPS], axis=1
            )
            if settings["loss"] == "squared":
                expected = step.curves(times, problem, start)
                learned = step.learning_times(problem, start)
            else:
                found = exact.cross_entropy_step(times, problem, start)
                expected = found.blocks
                assert off(margins, found.class_margins) < TOLERANCE, settings
                learned = exact.cross_entropy_learning_times(problem, start)
                separated = exact.cross_entropy_class_times(problem, start)
                by_page = [reached[f"margin_{group}"] for group in profiles.GROUPS]
                assert by_page == pytest.approx(separated, rel=TOLERANCE), settings
            assert off(blocks, expected) < TOLERANCE, settings
            for time, block in zip(learned, spectral.BLOCKS, strict=True):
                if np.isnan(time) or time > last:  # no such block, or after the times shown
                    assert reached[block] is None, settings
                else:
                    close = pytest.approx(time, rel=TOLERANCE, abs=1e-300)
                    assert reached[block] == close, settings
            groups[name] = np.max([learned[0], learned[2]])
        opens, closes = groups["weighted"], groups["erm"]
        if np.isfinite([opens, closes]).all():  # contrasts in both groups
            window = [opens, closes] if opens < closes else None
            assert said["window"] == (window and pytest.approx(window, rel=TOLERANCE)), settings


SMALL = [
    {
        "ratio": 4.0,
        "classes": 4,
        "fraction": 0.5,
        "exponent": 1.0,
        "coupling": 0.0,
        "loss": "squared",
    },
    {
        "ratio": 8.0,
        "classes": 4,
        "fraction": 0.25,
        "exponent": 0.7,
        "coupling": 0.4,
        "loss": "squared",
    },
    {
        "ratio": 4.0,
        "classes": 4,
        "fraction": 0.5,
        "exponent": 0.5,
        "coupling": 0.0,
        "loss": "cross_entropy",
    },
    {
        "ratio": 8.0,
        "classes": 4,
        "fraction": 0.25,
        "exponent": 1.3,
        "coupling": 0.4,
        "loss": "cross_entropy",
    },
]


@pytest.mark.parametrize("changed", SMALL, ids=lambda s: f"{s['loss']}, c={s['coupling']}")
def test_strengths_and_margins_are_those_of_a_run(visit, changed):
    """Of W and H, solved at rtol 1e-10 from the spectral start, at three times of the page."""
    settings = {"smallest": 2, "scale": 0.01} | changed
    table, _ = curves(visit(fragment(settings)))
    for name, exponent in (("erm", 0.0), ("weighted", settings["exponent"])):
        for i in (150, 220, 359):
            config = ssm.Config(
                loss=settings["loss"],
                num_classes=4,
                imbalance_ratio=settings["ratio"],
                minority_fraction=settings["fraction"],
                minority_count=2,
                weight_exponent=exponent,
                coupling=settings["coupling"],
                feature_dim=6,
                init="spectral",
                init_scale=settings["scale"],
                t1=float(table["time"][i]),
                num_saves=2,
                rtol=1e-10,
                save_state=True,
            )
            run, problem = ssm.simulate(config), make_problem(config)
            W, means = (
                run["W"].values[-1],
                run["H"].values[-1],
            )  # one column a class: they stay equal
            logits = W @ means
            next_best = np.where(np.eye(4, dtype=bool), -np.inf, logits).max(axis=0)
            margins = np.diagonal(logits) - next_best
            for place, group in ((0, "majority"), (3, "minority")):
                found = table[f"{name}_margin_{group}"][i]
                assert found == pytest.approx(margins[place], rel=TOLERANCE, abs=TOLERANCE)
            components = spectral.components(problem)
            targets = spectral.block_means(components.singular_values, components.blocks)
            shares = run["block_strength"].values[-1] / targets
            for share, block in zip(shares, spectral.BLOCKS, strict=True):
                found = table[f"{name}_{block}"][i]
                assert found == pytest.approx(share, rel=TOLERANCE, abs=TOLERANCE, nan_ok=True)


def test_a_link_restores_a_view(visit):
    page = visit()
    for slider, keys in (("ratio", 7), ("coupling", 30), ("classes", 4), ("scale", 3)):
        page.focus(f"#slider-{slider}")
        for _ in range(keys):
            page.keyboard.press("ArrowRight")
    page.check("input[value=squared]")
    page.focus("#time")
    page.keyboard.press("ArrowRight")
    page.click("#link")
    link = page.evaluate("location.href")
    view = "[...document.querySelectorAll('output, #number-window, .shares dd')].map(o => o.textContent)"
    other = visit(link.removeprefix(explorer.PAGE.as_uri()))
    assert other.evaluate(view) == page.evaluate(view)
    assert download(other, "#csv") == download(page, "#csv")
    assert "loss=squared" in link and "k=14" in link


def test_an_address_that_says_nonsense_is_a_view_all_the_same(visit):
    page = visit("#R=1e99&k=-3&rho=what&g=NaN&c=&s=0&n=2.5&loss=none&t=-1")
    _, said = curves(page)
    assert said["settings"] | {"fraction": 0.5} == said["settings"]
    assert said["settings"]["ratio"] == 1e9 and said["settings"]["classes"] == 2


@pytest.mark.parametrize("settings", SETTINGS[:4] + SMALL, ids=lambda s: f"R={s['ratio']:.3g}")
def test_the_commands_are_of_the_view(visit, settings):
    settings = {"smallest": 5, "scale": 1e-3} | settings
    lines = download(visit(fragment(settings)), "#sh").decode().splitlines()
    assert len(lines) == 2
    for line, exponent in zip(lines, (0.0, settings["exponent"]), strict=True):
        program, *arguments = shlex.split(line)
        command = parsing.parse(commands.Command, program, commands.DESCRIPTION, arguments)
        assert isinstance(command, commands.RunCommand)
        problem, expected = make_problem(command.config), problem_of(settings, exponent)
        for found, wanted in zip(step.step_of(problem)[:4], expected[:4], strict=True):
            assert found == pytest.approx(wanted, rel=1e-12)
        assert (command.config.loss, command.config.init) == (settings["loss"], "spectral")
        assert command.config.init_scale == pytest.approx(settings["scale"], rel=1e-12)


def test_pictures(visit):
    page = visit("#R=1000&g=1")
    png, svg = download(page, "#png"), download(page, "#svg")
    assert png.startswith(b"\x89PNG\r\n") and int.from_bytes(png[16:20]) == 1520
    root = ET.fromstring(svg)
    assert root.tag.endswith("svg") and len(root.findall(".//{*}polyline")) == 10
    assert b"NaN" not in svg


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there: make explorer")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
def test_axe_finds_nothing(visit, theme, width):
    page = visit(viewport={"width": width, "height": 900}, color_scheme=theme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")
    assert not [
        (rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]
    ]


def test_the_theme_can_be_chosen(visit):
    page = visit(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.select_option("#theme", "dark")
    assert page.evaluate(background) != light
    page.select_option("#theme", "auto")
    assert page.evaluate(background) == light


def test_play_goes_on_in_steps_where_little_motion_is_asked_for(visit):
    """At most one of twelve steps in 0.9 seconds, where it is smooth otherwise."""
    seen = {}
    for motion in ("reduce", "no-preference"):
        page = visit(reduced_motion=motion)
        page.fill("#time", "0")
        page.click("#play")
        places = set()
        for _ in range(40):
            page.wait_for_timeout(30)
            places.add(page.input_value("#time"))
        page.click("#play")
        seen[motion] = len(places)
        assert page.inner_text("#play").strip() == "Play"
    assert seen["reduce"] <= 3 < seen["no-preference"]


def test_times_are_told(visit):
    """The first frame, and an update at the heaviest place found, in milliseconds: told, not held to."""
    heavy = {"R": 2.5e7, "rho": 0.83, "k": 13, "n": 704, "g": 1.33, "c": 0.36, "s": 1.3e-5}
    page = visit(f"#{urllib.parse.urlencode(heavy)}")
    page.wait_for_function("performance.getEntriesByType('paint').length")
    first = page.evaluate("performance.getEntriesByType('paint')[0].startTime")
    print(f"first frame {first:.0f} ms")
    page.focus("#slider-ratio")
    for i in range(60):
        page.keyboard.press("ArrowRight" if i % 2 else "ArrowLeft")
        page.wait_for_timeout(30)
    for part in ("compute", "update"):
        took = page.evaluate(f"performance.getEntriesByName('{part}').map(entry => entry.duration)")
        half, most = np.percentile(took[5:], [50, 95])
        print(f"{part}: median {half:.1f} ms, 95th percentile {most:.1f} ms")
        assert len(took) > 30
