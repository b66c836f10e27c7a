// The About tab: an interactive figure of best-of-N, and the form's settings as code.
{
  // Draws uniform scores between 0 and 1, whose best of N is N/(N+1) on average.
  bon.demo = (element) => {
    const slider = bon.el("input", { type: "range", min: 0, max: 6, step: 1, "aria-label": bon.say("form.n") });
    const output = bon.el("output"),
      outcome = bon.el("p", { class: "outcome", role: "status" });
    const again = bon.el("button", { type: "button", class: "copy" }, bon.say("play.again"));
    const figure = bon.el("figure", { class: "strip" });
    const tooltip = bon.tooltip(element);
    element.append(
      bon.el("div", { class: "bon play" }, bon.el("div", { class: "knobs" }, output, slider, again), figure, outcome),
    );
    const strip = bon.strip(figure, tooltip, () => {});
    let bests = [];

    const draw = () => {
      const n = 2 ** Number(slider.value);
      const scores = Array.from({ length: n }, () => Math.random());
      const best = scores.indexOf(Math.max(...scores));
      bests.push(scores[best]);
      const expected = n / (n + 1),
        mean = bests.reduce((sum, best) => sum + best, 0) / bests.length;
      bon.text(output, `N = ${n}`);
      slider.setAttribute("aria-valuetext", bon.say("candidates", { n }));
      strip.draw({
        n,
        unit: bon.say("play.unit"),
        axis: { ticks: [0, 0.25, 0.5, 0.75, 1].map((tick) => [tick, String(tick)]) },
        mean: { share: 0.5, score: "0.500" },
        winner: { index: best, score: scores[best].toFixed(3), lift: `+${(scores[best] - 0.5).toFixed(3)}` },
        rows: scores.map((score) => ({ score: score.toFixed(3), share: score, state: "scored", text: "" })),
      });
      bon.text(
        outcome,
        bon.say("play.said", {
          of: n,
          best: scores[best].toFixed(3),
          n: bests.length,
          mean: mean.toFixed(3),
          expected: `${n}/${n + 1} = ${expected.toFixed(3)}`,
        }),
      );
    };
    slider.value = 3;
    slider.addEventListener("input", () => ((bests = []), draw()));
    again.addEventListener("click", draw);
    draw();
  };

  const changedValues = (values) =>
    Object.entries(values).filter(
      ([name, value]) =>
        !["prompt", "chat"].includes(name) && value !== null && value !== "" && String(value) !== String(bon.defaults[name]),
    );
  const callArguments = (values) => changedValues(values).map(([name, value]) => [name, value === true ? bon.switches[name] : value]);
  const number = (name, value) => (name === "seed" ? Number(value) : value);
  const python = (value) => (typeof value === "string" ? JSON.stringify(value) : String(value));
  const shell = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;

  // The messages of a chat, or null for a plain text; and the first argument of a call for either.
  const chat = ({ prompt, chat }) => chat && [...chat, { role: "user", content: prompt }];
  const first = (values) => (chat(values) ? `messages=${JSON.stringify(chat(values))}` : python(values.prompt));
  // The command for a prompt or a chat; a chat of more than one exchange goes through a file.
  const command = (values) => {
    const messages = chat(values);
    if (!messages) return `python -m bon ${shell(values.prompt)}`;
    const [firstMessage, second] = messages;
    if (!second) return `python -m bon --chat ${shell(firstMessage.content)}`;
    if (messages.length === 2 && firstMessage.role === "system")
      return `python -m bon --chat ${shell(second.content)} --system ${shell(firstMessage.content)}`;
    return `printf %s ${shell(JSON.stringify(messages))} > chat.json\npython -m bon --messages chat.json`;
  };

  const CODE = {
    python: (values) => {
      const rest = callArguments(values).map(([name, value]) => `, ${name}=${python(number(name, value))}`);
      return `import bon\n\nresult = bon.best_of_n(${first(values)}${rest.join("")})\nprint(result.best.score, result.best.text)`;
    },
    shell: (values) => {
      const flags = callArguments(values).map(([name, value]) => ` --${name.replaceAll("_", "-")} ${/^[\w.]+$/.test(value) ? value : shell(value)}`);
      return `${command(values)}${flags.join("")} --json`;
    },
    client: (values) => {
      const rest = callArguments(values).map(([name, value]) => `, ${name}=${python(number(name, value))}`);
      return (
        `from gradio_client import Client\n\nclient = Client("${location.origin}")\n` +
        `result = client.predict(${first(values)}${rest.join("")}, api_name="/best_of_n")\nprint(result["candidates"][0])`
      );
    },
    curl: (values) => {
      const body = chat(values) ? { messages: chat(values) } : { prompt: values.prompt };
      for (const [name, value] of callArguments(values)) body[name] = number(name, value);
      return (
        `BASE=${location.origin}/gradio_api/call\n` +
        `ID=$(curl -s $BASE/v2/best_of_n -H 'Content-Type: application/json' \\\n` +
        `  -d ${shell(JSON.stringify(body))} | cut -d '"' -f 4)\ncurl -sN $BASE/best_of_n/$ID`
      );
    },
  };

  CODE.mcp = () => JSON.stringify({ mcpServers: { bon: { url: `${location.origin}/gradio_api/mcp/` } } }, null, 2);

  // Fills every code[data-code] with the form's settings; values are in the order of its fields.
  bon.code = (...values) => {
    const all = Object.fromEntries(Object.keys(bon.defaults).map((name, i) => [name, values[i]]));
    for (const node of document.querySelectorAll("code[data-code]")) bon.text(node, CODE[node.dataset.code](all));
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.(".about [data-copies]");
    if (!button) return;
    await bon.copy(button.parentElement.querySelector("code").textContent);
    bon.text(button, bon.say("copied"));
    setTimeout(() => bon.text(button, bon.say("copy")), 1500);
  });
}
