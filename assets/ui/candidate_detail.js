// The details of one candidate: tokens tinted by their log-probability, how it ended, and the parts of its score.
{
  const FULL_TINT = 7; // nats of negative log-probability from which a token is tinted in full
  const format = (value, digits) => value.toFixed(digits).replace("-", "−");
  const nats = (value) => bon.say("nats", { value: format(value, 2) });

  const ENDINGS = ["eos", "length", "sentence", "stop_string", "rejected", "stopped"];

  const tintedText = (pieces) =>
    bon.el(
      "p",
      { class: "tinted" },
      ...pieces.map(([text, logprob]) => {
        const piece = bon.el("span", { class: "piece", "data-tip": nats(logprob) }, text);
        piece.style.setProperty("--far", Math.min(1, -logprob / FULL_TINT).toFixed(2));
        return piece;
      }),
    );

  const leastLikelyTokens = (pieces) => {
    const lowest = [...pieces].sort((a, b) => a[1] - b[1]).slice(0, 3);
    const tokens = lowest.map(([text, logprob]) =>
      bon.say("detail.token", { text: text.trim() || text, nats: format(logprob, 1) }),
    );
    return bon.say("detail.surprises", { list: tokens.join(", ") });
  };

  bon.candidateDetail = (candidate) => {
    const { pieces = [], parts = {}, tokens, logprob, judge } = candidate;
    const facts = [];
    const ending = candidate.full_text ? "sentence" : candidate.ended;
    if (ENDINGS.includes(ending))
      facts.push([bon.say("detail.ended"), bon.say(`detail.${ending}`, { n: tokens, most: candidate.cap })]);
    if (logprob !== null && tokens)
      facts.push([
        bon.say("detail.logprob"),
        bon.say("detail.logprob.value", { sum: nats(logprob), each: nats(logprob / tokens) }),
      ]);
    for (const [name, value] of Object.entries(parts)) facts.push([bon.say("detail.part", { name }), format(value, 3)]);
    if (judge !== null && judge !== undefined) facts.push([bon.say("detail.judge"), format(judge, 3)]);
    return bon.el(
      "div",
      { class: "detail" },
      ...(pieces.length ? [tintedText(pieces), bon.el("p", { class: "hint" }, leastLikelyTokens(pieces))] : []),
      bon.el("dl", {}, ...facts.map(([name, value]) => bon.fact(name, value))),
    );
  };

  // A button that opens and closes a candidate's details in `place`. makeDetail: makes their node, at each opening.
  bon.detailButton = (place, label, makeDetail) => {
    const isOpen = () => button.getAttribute("aria-expanded") === "true";
    const setOpen = (open) => {
      place.querySelector(":scope > .detail")?.remove();
      const node = open ? makeDetail() : null;
      if (node) place.append(node);
      button.setAttribute("aria-expanded", Boolean(node));
    };
    const button = bon.button(label, () => setOpen(!isOpen()), { class: "more", "aria-expanded": "false" });
    return { button, close: () => setOpen(false) };
  };
}
