"""What the Compare tab shows, as plain values: a comparison and the run under way go in, a view comes out.

`assets/ui/compare.js` draws it. The figure is made in Python, of numbers and escaped names, as the report's is.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from bon.compare import comparison_chart, comparison_files
from bon.compare.events import PromptDone, PromptProgress
from bon.compare.result import Comparison
from bon.compare.systems import winner
from bon.messages import decode_messages, encode_messages, join, say
from bon.report.json_text import json_text
from bon.report.numbers import format_score, format_unit
from bon.result import Candidate, Result
from bon.stats import estimates
from bon.ui.view_types import View

PARTS = ("base", "tuned", "best")


def empty() -> View:
    """Before anything was compared."""
    return {"phase": "empty", "title": say("compare.title"), "line": say("compare.line"),
            "cards": [blank(part) for part in PARTS]}


def sample_text(comparison: Comparison) -> str:
    """A finished comparison as a file that `sample` shows."""
    cards = cards_of(comparison)
    shown = {"cards": [cards[part] for part in PARTS if part in cards]} | summary(comparison)
    return json_text(encode_messages(shown), indent=1, ensure_ascii=False) + "\n"


def sample(path: Path) -> View:
    """The finished comparison in the file `path`, labelled as a sample; `empty()` without it."""
    if not path.is_file():
        return empty()
    shown = decode_messages(json.loads(path.read_text(encoding="utf-8")))
    return empty() | {"phase": "sample", "line": say("compare.sampled")} | shown


def loading() -> View:
    """While the models are read."""
    return {"phase": "loading", "title": say("compare.loading"), "line": say("compare.first")}


class ComparisonProgress:
    """The view of a comparison that goes on: events go in, the view so far comes out."""

    def __init__(self, prompts: int):
        self._prompts, self._running = prompts, dict[str, PromptProgress]()
        self._summary, self._summarized = View(), 0
        self.comparison: Comparison | None = None

    def add(self, event: PromptProgress | PromptDone) -> None:
        """Takes one event in."""
        if isinstance(event, PromptDone):
            self.comparison, self._running = event.comparison, {}
        else:
            self._running[event.system] = event

    @property
    def done(self) -> int:
        """Prompts that are complete."""
        return len(self.comparison.samples) if self.comparison else 0

    def view(self, phase: str = "writing", error: str = "") -> View:
        """The view so far, or as a run leaves it that ended: `done`, `stopped` or `failed`."""
        of = say("compare.done", done=self.done, n=self._prompts)
        titles = {"writing": say("compare.writing", number=min(self.done + 1, self._prompts), of=self._prompts),
                  "done": say("done.title"), "stopped": say("compare.stopped", done=of),
                  "failed": say("compare.broken")}
        kept = say("kept") if self.done else ""
        cards = {part: card(part, event.result) for part, event in self._running.items()}
        if not cards and self.comparison is not None:
            cards = cards_of(self.comparison)
        without = self.comparison is not None and self.comparison.tuned is None
        shown: View = {
            "phase": phase, "title": titles[phase], "line": {"writing": "", "done": of}.get(phase, kept),
            "progress": self.done / self._prompts, "error": error,
            "cards": [cards.get(part) or blank(part) for part in PARTS if not (without and part == "tuned")],
        }
        # Over many prompts the table is not worth making anew for each of them.
        due = phase != "writing" or self.done <= 32 or self.done > 1.2 * self._summarized
        if self.comparison is not None and due and self.done != self._summarized:
            self._summary, self._summarized = summary(self.comparison), self.done
        shown |= self._summary
        if self.comparison is not None and phase != "writing" and self.done:
            shown["files"] = files(self.comparison)
        return shown


def blank(part: str) -> View:
    """A card that waits for its first words."""
    under = "" if part == "best" else say("compare.sample")
    return {"part": part, "title": say(f"compare.{part}"), "under": under, "prompt": "", "text": "", "score": "",
            "unit": "", "facts": ""}


def card(part: str, result: Result) -> View:
    """One system's text for one prompt while it is written: the leader so far, its score, what it took."""
    timing = f"{result.timing.total:.2f} s" if result.timing.total else ""
    return _card(part, result.prompt, result.candidates[0], result.candidates, [timing],
                 format_unit(result.unit, result.target))


def cards_of(comparison: Comparison) -> dict[str, View]:
    """The cards of the prompt that was done last."""
    last = comparison.samples[-1]
    best = winner(last.base)
    shown = {"base": (last.base[0], last.base[:1], "KL 0"), "best": (best, last.base, "")}
    if last.tuned:
        measured = say("compare.kl", kl=f"{estimates.mean(last.log_ratios):.2f}") if last.log_ratios else ""
        shown["tuned"] = (last.tuned[0], last.tuned[:1], measured)
    unit = format_unit(comparison.unit, comparison.target)
    return {part: _card(part, last.prompt, best, among, [f"{last.seconds[part]:.2f} s", kl], unit)
            for part, (best, among, kl) in shown.items()}


def _card(part: str, prompt: str, best: Candidate, among: Sequence[Candidate], facts: list[str], unit: str) -> View:
    shown, n = blank(part), len(among)
    if part == "best":
        shown.update(title=say("compare.best_of", of=n), under=say("compare.samples", n=n))
        facts = [*facts, say("compare.bound", kl=f"{estimates.kl_bound(n):.2f}")]
    if best.judge is not None:
        facts = [*facts, say("compare.judge", score=format_score(best.judge))]
    facts = join([say("tokens", n=sum(c.tokens for c in among)), *facts])
    score = "" if best.score is None else format_score(best.score)
    return shown | {"prompt": prompt, "text": best.text, "score": score, "unit": unit, "facts": facts}


def summary(comparison: Comparison) -> View:
    """Table, figure, the sentence made from the numbers, notes."""
    heads, rows = comparison_files.table(comparison)
    return {
        "about": comparison_files.title(comparison),
        "heads": heads,
        "rows": rows,
        "figure": comparison_chart.svg(comparison, encode_messages),
        "sentence": comparison.sentence(),
        "notes": list(comparison.notes),
    }


def files(comparison: Comparison) -> dict[str, str]:
    """The downloads by their names."""
    return {
        "comparison.csv": comparison_files.comparison_csv(comparison),
        "comparison.json": json_text(comparison.to_dict()),
        "comparison.html": comparison_files.comparison_html(comparison),
    }


def stopped(view: View) -> View:
    """The last view of a comparison that was stopped, made final: what is done stays."""
    if view.get("phase") not in ("writing", "loading"):
        return view
    return {**view, "phase": "stopped", "title": say("stopped.early"), "line": say("kept") if view.get("rows") else ""}
