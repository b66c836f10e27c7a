"""The labels of every chart, as Chromium draws them: none overlaps another, is struck through or outside its chart."""

import itertools
import json
import random

from bon.compare import comparison_chart
from bon.report import result_files
from bon.ui.compare import comparison_view
from bon.ui.generate import run_view
from tests.compare.test_comparison import synthetic_comparison
from tests.report.test_result_files import make_run
from tests.support.browser import DESK, PHONE_SIZE

#: The faults of all charts in a document: texts that overlap, that a line of `LINES` crosses, that are outside their
#: chart by more than a pixel, or smaller than 10.
FAULTS = """(lines) => [...document.querySelectorAll("svg[role=img]")].flatMap((svg) => {
    if (!svg.getClientRects().length) return [];
    const frame = svg.getBoundingClientRect();
    const labels = [...svg.querySelectorAll("text")].filter((node) => node.textContent).map((node) => {
        const { left, right, top, bottom } = node.getBoundingClientRect();
        const size = parseFloat(getComputedStyle(node).fontSize) * node.getScreenCTM().a;
        // A line of text is higher than its digits.
        return { text: node.textContent, left, right, top: top + size * 0.25, bottom: bottom - size * 0.25, size };
    });
    const faults = [];
    labels.forEach((a, i) => {
        for (const b of labels.slice(i + 1))
            if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
                faults.push(`${a.text} overlaps ${b.text}`);
        if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 1 ||
            a.bottom > frame.bottom + 1)
            faults.push(`${a.text} is outside`);
        if (a.size < 10) faults.push(`${a.text} has ${a.size} pixels`);
    });
    for (const path of svg.querySelectorAll(lines)) {
        const place = path.getScreenCTM(), length = path.getTotalLength();
        for (let at = 0; at <= length; at += 4) {
            const { x, y } = path.getPointAtLength(at).matrixTransform(place);
            for (const a of labels)
                if (x > a.left && x < a.right && y > a.top && y < a.bottom) faults.push(`${a.text} is struck through`);
        }
    }
    return [...new Set(faults)].map((fault) => `${fault}: ${svg.getAttribute("aria-label")} (${frame.width})`);
})"""
DRAW = """([views, curves]) => {
    const root = document.querySelector("#view .bon");
    root.querySelectorAll(".drawn").forEach((node) => node.remove());
    const tooltip = { show() {}, hide() {} };
    for (const view of views) {
        const figure = root.appendChild(bon.el("figure", { class: "drawn strip" }));
        bon.scoreChart(figure, tooltip, () => {}).draw(view);
        const curve = root.appendChild(bon.el("figure", { class: "drawn curve" }));
        if (view.curve) bon.expectedBestChart(curve, tooltip).draw(view.curve);
    }
    for (const pair of curves) {
        const figure = bon.pairChart(pair);
        figure.classList.add("drawn");
        root.closest(".bon").append(figure);
    }
}"""


def score_sets() -> list[tuple[list[float], str]]:
    """Scores at the ends of their range, equal, nearly equal, spread and random, with their units."""
    draw = random.Random(3)
    sets = [
        ([0.0, 1.0], "probability"), ([1.0, 0.0, 0.0], "probability"), ([0.9999, 0.9998], "probability"),
        ([0.0, 0.0004, 0.0001], "probability"), ([0.5] * 9, "probability"),
        ([0.0] * 15 + [1.0], "probability"), ([1.0] * 15 + [0.0], "probability"), ([0.397, 0.603] * 8, "probability"),
        ([-12.345, 10.25, 0.0], "logit"), ([1e-4, 2e-4, 3.1e-4], "score"), ([-1e5, 2e5, 3e5, 3.1e5], "reward"),
        ([7.25] * 3, "score"), ([i / 7 for i in range(100)], "logit"),
    ]
    sets += [([draw.random() ** power for _ in range(n)], "probability")
             for n in (2, 5, 8, 16, 33) for power in (0.2, 6)]
    return sets + [([draw.gauss(0, scale) for _ in range(n)], "margin") for n in (3, 12) for scale in (0.01, 300)]


def runs() -> list:
    """A run of each set of scores with each rule of selection."""
    return [make_run([" x"] * len(scores), scores, unit=unit, select=select, softness=1.0)
            for scores, unit in score_sets() for select in ("best", "worst", "soft")]


def comparisons() -> list:
    """Comparisons with points near each other and far apart, with checkpoints and without."""
    draw = random.Random(5)
    points = tuple({"name": f"step {step}", "kl": kl, "kl_error": 0.05, "score": score, "low": score - 0.03,
                    "high": score + 0.03}
                   for step, kl, score in ((20, 0.94, 0.62), (40, 1.1, 0.63), (60, 1.12, 0.64), (100, 2.6, 0.77)))
    found = []
    for n, prompts, unit, scale in itertools.product((1, 2, 64), (1, 3), ("probability", "logit"), (0.01, 1)):
        rows = [[draw.random() * scale for _ in range(n)] for _ in range(prompts)]
        tuned = [[draw.random() * scale for _ in range(4)] for _ in range(prompts)]
        ratios = [[draw.random() * 4] * 4 for _ in range(prompts)]
        found.append(synthetic_comparison(rows, tuned, ratios, points if scale == 1 else (), unit,
                                          judge=lambda score: score / 2))
    return found


def test_labels_in_reports_can_be_read(browser):
    reports = "".join(result_files._figures(run) for run in runs())
    style = result_files.run_html(make_run()).partition("<style>")[2].partition("</style>")[0]
    charts = "".join(f"<figure>{comparison_chart.chart(c).markup()}</figure>" for c in comparisons())
    page, faults = browser.new_page(), []
    page.set_content(f"<style>{style}</style>{reports}<div>{charts}</div>")
    for size in (DESK, PHONE_SIZE):
        page.set_viewport_size(size)
        faults += page.evaluate(FAULTS, 'figure > div path[fill="none"]:not([stroke*="line"])')
    page.close()
    assert faults == []


def test_labels_on_the_page_can_be_read(stage, visit):
    page = visit(stage)
    views = [run_view.done_view(run) for run in runs()]
    views = json.loads(json.dumps(views, default=str))
    stats = [{"run": {"unit": run.unit, "stats": {"expected_best": list(run.stats.expected_best)}}} for run in runs()]
    pairs = [[a, b] for a, b in itertools.pairwise(stats) if a["run"]["unit"] == b["run"]["unit"]]
    faults = []
    for size in (DESK, PHONE_SIZE):
        page.set_viewport_size(size)
        page.evaluate(DRAW, [views, pairs[::9]])
        faults += page.evaluate(FAULTS, ".bracket path, .bracket line, .curve .line")
    assert faults == []


def test_the_comparison_on_a_phone_is_shown_whole(stage, visit):
    page = visit(stage, viewport=PHONE_SIZE, locale="es-ES")  # in the language of the longer texts
    page.get_by_role("tab", name="Comparar").click()
    views = [comparison_view.summary(comparison)["figure"] for comparison in comparisons()]
    page.evaluate("""(figures) => document.querySelector(".comparison .drawing").replaceChildren(
        ...figures.map((figure) => bon.drawing(JSON.parse(figure))))""", views)
    assert page.evaluate("""() => { const box = document.querySelector(".comparison .drawing");
        return box.scrollWidth - box.clientWidth; }""") <= 0
    assert page.evaluate(FAULTS, "path.none") == []
