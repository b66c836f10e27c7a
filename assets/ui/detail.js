// One candidate in detail: its tokens tinted by how little the model expected them, how it ended, what its score is
// made of.
{
  const UNEXPECTED = 7; // nats below which a token is tinted in full
  const number = (value, digits) => value.toFixed(digits).replace("-", "−");
  const nats = (value) => bon.say("nats", { value: number(value, 2) });

  const ENDS = ["eos", "length", "rejected", "stopped"];

  const tinted = (pieces) =>
    bon.el(
      "p",
      { class: "tinted" },
      ...pieces.map(([text, logprob]) => {
        const piece = bon.el("span", { class: "piece", "data-tip": nats(logprob) }, text);
        piece.style.setProperty("--far", Math.min(1, -logprob / UNEXPECTED).toFixed(2));
        return piece;
      }),
    );

  const surprises = (pieces) => {
    const least = [...pieces].sort((a, b) => a[1] - b[1]).slice(0, 3);
    const named = least.map(([text, logprob]) => bon.say("detail.token", { text: text.trim() || text, nats: number(logprob, 1) }));
    return bon.say("detail.surprises", { list: named.join(", ") });
  };

  bon.detail = (candidate) => {
    const { pieces = [], parts = {}, tokens, logprob, judge } = candidate;
    const facts = [];
    if (ENDS.includes(candidate.ended))
      facts.push([bon.say("detail.ended"), bon.say(`detail.${candidate.ended}`, { n: tokens, most: candidate.cap })]);
    if (logprob !== null && tokens)
      facts.push([
        bon.say("detail.logprob"),
        bon.say("detail.logprob.value", { sum: nats(logprob), each: nats(logprob / tokens) }),
      ]);
    for (const [name, value] of Object.entries(parts)) facts.push([bon.say("detail.part", { name }), number(value, 3)]);
    if (judge !== null && judge !== undefined) facts.push([bon.say("detail.judge"), number(judge, 3)]);
    return bon.el(
      "div",
      { class: "detail" },
      ...(pieces.length ? [tinted(pieces), bon.el("p", { class: "hint" }, surprises(pieces))] : []),
      bon.el(
        "dl",
        {},
        ...facts.map(([name, words]) => bon.el("div", {}, bon.el("dt", {}, name), bon.el("dd", {}, words))),
      ),
    );
  };

  // A button that opens and closes the detail of a candidate in `place`; made anew each time it is opened.
  bon.discloser = (place, words, make) => {
    const button = bon.el("button", { type: "button", class: "more", "aria-expanded": "false" }, words);
    const set = (open) => {
      place.querySelector(":scope > .detail")?.remove();
      const node = open ? make() : null;
      if (node) place.append(node);
      button.setAttribute("aria-expanded", Boolean(node));
    };
    button.addEventListener("click", () => set(button.getAttribute("aria-expanded") !== "true"));
    return { button, close: () => set(false) };
  };
}
