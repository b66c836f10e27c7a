"""The views of the Compare tab, made from a comparison or the events of one under way.

`comparison_view.js` draws them. The figure is the report's, as JSON in place of markup.
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

SYSTEMS = ("base", "tuned", "best")


def empty_view() -> View:
    """The view before the first comparison."""
    return {"phase": "empty", "title": say("compare.title"), "line": say("compare.line"),
            "cards": [blank_card(system) for system in SYSTEMS]}


def sample_text(comparison: Comparison) -> str:
    """The text of a file from which `sample_view` makes the view of a finished comparison."""
    cards = cards_of(comparison)
    view = {"cards": [cards[system] for system in SYSTEMS if system in cards]} | summary(comparison)
    return json_text(encode_messages(view), indent=1, ensure_ascii=False) + "\n"


def sample_view(path: Path) -> View:
    """The view of the comparison in the file `path`, labelled as a sample; `empty_view()` without the file."""
    if not path.is_file():
        return empty_view()
    view = decode_messages(json.loads(path.read_text(encoding="utf-8")))
    return empty_view() | {"phase": "sample", "line": say("compare.sampled")} | view


def loading_view() -> View:
    """The view while models are loaded."""
    return {"phase": "loading", "title": say("compare.loading"), "line": say("compare.first")}


class ComparisonProgress:
    """The state of a comparison under way: events go in, the view so far comes out. prompts: how many there are."""

    def __init__(self, prompts: int):
        self._prompts, self._running = prompts, dict[str, PromptProgress]()
        self._summary, self._summarized_prompts = View(), 0
        self.comparison: Comparison | None = None

    def add(self, event: PromptProgress | PromptDone) -> None:
        """Adds an event."""
        if isinstance(event, PromptDone):
            self.comparison, self._running = event.comparison, {}
        else:
            self._running[event.system] = event

    @property
    def done(self) -> int:
        """How many prompts are complete."""
        return len(self.comparison.samples) if self.comparison else 0

    def view(self, phase: str = "writing", error: str = "") -> View:
        """The view so far. phase: `writing`, or how the comparison ended: `done`, `stopped` or `failed`."""
        count = say("compare.done", done=self.done, n=self._prompts)
        titles = {"writing": say("compare.writing", number=min(self.done + 1, self._prompts), of=self._prompts),
                  "done": say("done.title"), "stopped": say("compare.stopped", done=count),
                  "failed": say("compare.broken")}
        kept = say("kept") if self.done else ""
        cards = {system: card(system, event.result) for system, event in self._running.items()}
        if not cards and self.comparison is not None:
            cards = cards_of(self.comparison)
        no_tuned = self.comparison is not None and self.comparison.tuned is None
        view: View = {
            "phase": phase, "title": titles[phase], "line": {"writing": "", "done": count}.get(phase, kept),
            "progress": self.done / self._prompts, "error": error,
            "cards": [cards.get(system) or blank_card(system) for system in SYSTEMS
                      if not (no_tuned and system == "tuned")],
        }
        # The summary takes time in proportion to the prompts, so over many it is not made again after each of them.
        due = phase != "writing" or self.done <= 32 or self.done > 1.2 * self._summarized_prompts
        if self.comparison is not None and due and self.done != self._summarized_prompts:
            self._summary, self._summarized_prompts = summary(self.comparison), self.done
        view |= self._summary
        if self.comparison is not None and phase != "writing" and self.done:
            view["files"] = files(self.comparison)
        return view


def blank_card(system: str) -> View:
    """A system's card before it has a text."""
    under = "" if system == "best" else say("compare.sample")
    return {"part": system, "title": say(f"compare.{system}"), "under": under, "prompt": "", "text": "", "cut": None,
            "score": "", "unit": "", "facts": ""}


def card(system: str, result: Result) -> View:
    """A system's card for one prompt while it is generated: the best text so far, its score, tokens and seconds."""
    timing = f"{result.timing.total:.2f} s" if result.timing.total else ""
    return _card(system, result.prompt, result.candidates[0], result.candidates, [timing],
                 format_unit(result.unit, result.target))


def cards_of(comparison: Comparison) -> dict[str, View]:
    """The cards of the last prompt that is complete, by system."""
    last = comparison.samples[-1]
    samples = {"base": (last.base[0], last.base[:1], "KL 0"), "best": (winner(last.base), last.base, "")}
    if last.tuned:
        kl = say("compare.kl", kl=f"{estimates.mean(last.log_ratios):.2f}") if last.log_ratios else ""
        samples["tuned"] = (last.tuned[0], last.tuned[:1], kl)
    unit = format_unit(comparison.unit, comparison.target)
    return {system: _card(system, last.prompt, best, candidates, [f"{last.seconds[system]:.2f} s", kl], unit)
            for system, (best, candidates, kl) in samples.items()}


def _card(system: str, prompt: str, best: Candidate, candidates: Sequence[Candidate], facts: list[str], unit: str
          ) -> View:
    """A system's card with the best of its candidates for a prompt. facts: texts that follow the number of tokens."""
    view, n = blank_card(system), len(candidates)
    if system == "best":
        view.update(title=say("compare.best_of", of=n), under=say("compare.samples", n=n))
        facts = [*facts, say("compare.bound", kl=f"{estimates.kl_bound(n):.2f}")]
    if best.judge is not None:
        facts = [*facts, say("compare.judge", score=format_score(best.judge))]
    facts_line = join([say("tokens", n=sum(c.generated for c in candidates)), *facts])
    score = "" if best.score is None else format_score(best.score)
    return view | {"prompt": prompt, "text": best.text, "cut": best.tokens if best.cut else None, "score": score,
                   "unit": unit, "facts": facts_line}


def summary(comparison: Comparison) -> View:
    """The part of the view under the cards: table, figure, a sentence on them, and notes."""
    heads, rows = comparison_files.table(comparison)
    chart = comparison_chart.chart(comparison)
    return {
        "about": comparison_files.title(comparison),
        "heads": heads,
        "rows": rows,
        # A text, which Gradio sends as a whole: its differences between nested lists come out wrong in the browser.
        "figure": json_text(encode_messages(chart.view())) if chart else "",
        "sentence": comparison.sentence(),
        "notes": list(comparison.notes),
    }


def files(comparison: Comparison) -> dict[str, str]:
    """The texts of the downloads by file name."""
    return {
        "comparison.csv": comparison_files.comparison_csv(comparison),
        "comparison.json": json_text(comparison.to_dict()),
        "comparison.html": comparison_files.comparison_html(comparison),
    }


def stopped_view(view: View) -> View:
    """The view of a comparison that was stopped, from its last view: the prompts that are done stay."""
    if not isinstance(view, dict) or view.get("phase") not in ("writing", "loading"):
        return view
    return {**view, "phase": "stopped", "title": say("stopped.early"), "line": say("kept") if view.get("rows") else ""}
