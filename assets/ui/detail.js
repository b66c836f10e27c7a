// One candidate in detail: its tokens tinted by how little the model expected them, how it ended, what its score is
// made of.
{
  const UNEXPECTED = 7; // nats below which a token is tinted in full
  const number = (value, digits) => value.toFixed(digits).replace("-", "−");
  const nats = (value) => `${number(value, 2)} nats`;

  const ENDS = {
    eos: (c) => `the model ended it after ${c.tokens} tokens`,
    length: (c) => `cut at ${c.tokens} tokens, the length drawn for it`,
    rejected: (c) => `dropped by early rejection at ${c.tokens} of at most ${c.cap} tokens`,
    stopped: (c) => `stopped at ${c.tokens} of at most ${c.cap} tokens`,
  };

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
    const named = least.map(([text, logprob]) => `“${text.trim() || text}” (${number(logprob, 1)})`);
    return `The darker a token, the less the model expected it. Least expected, in nats: ${named.join(", ")}.`;
  };

  bon.detail = (candidate) => {
    const { pieces = [], parts = {}, tokens, logprob, judge } = candidate;
    const facts = [["ended", ENDS[candidate.ended]?.(candidate)]];
    if (logprob !== null && tokens)
      facts.push(["log-probability", `${nats(logprob)}, ${nats(logprob / tokens)} a token`]);
    for (const [name, value] of Object.entries(parts)) facts.push([`part: ${name}`, number(value, 3)]);
    if (judge !== null && judge !== undefined) facts.push(["judge", number(judge, 3)]);
    return bon.el(
      "div",
      { class: "detail" },
      ...(pieces.length ? [tinted(pieces), bon.el("p", { class: "hint" }, surprises(pieces))] : []),
      bon.el(
        "dl",
        {},
        ...facts
          .filter(([, words]) => words)
          .map(([name, words]) => bon.el("div", {}, bon.el("dt", {}, name), bon.el("dd", {}, words))),
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
