// The About tab: a small figure to play with, and the present settings as code.
{
  // Scores drawn evenly between 0 and 1, for which the best of N is N/(N+1) on average.
  bon.play = (element) => {
    const slider = bon.el("input", { type: "range", min: 0, max: 6, step: 1, "aria-label": bon.say("form.n") });
    const words = bon.el("output"),
      said = bon.el("p", { class: "said", role: "status" });
    const again = bon.el("button", { type: "button", class: "copy" }, bon.say("play.again"));
    const figure = bon.el("figure", { class: "strip" });
    const bubble = bon.bubble(element);
    element.append(
      bon.el("div", { class: "bon play" }, bon.el("div", { class: "knobs" }, words, slider, again), figure, said),
    );
    const strip = bon.strip(figure, bubble, () => {});
    let bests = [];

    const draw = () => {
      const n = 2 ** Number(slider.value);
      const scores = Array.from({ length: n }, () => Math.random());
      const best = scores.indexOf(Math.max(...scores));
      bests.push(scores[best]);
      const exactly = n / (n + 1),
        mean = bests.reduce((sum, one) => sum + one, 0) / bests.length;
      bon.text(words, `N = ${n}`);
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
        said,
        bon.say("play.said", {
          of: n,
          best: scores[best].toFixed(3),
          n: bests.length,
          mean: mean.toFixed(3),
          expected: `${n}/${n + 1} = ${exactly.toFixed(3)}`,
        }),
      );
    };
    slider.value = 3;
    slider.addEventListener("input", () => ((bests = []), draw()));
    again.addEventListener("click", draw);
    draw();
  };

  const given = (values) =>
    Object.entries(values).filter(
      ([name, value]) =>
        !["prompt", "chat"].includes(name) && value !== null && value !== "" && String(value) !== String(bon.defaults[name]),
    );
  const named = (values) => given(values).map(([name, value]) => [name, name === "reject" ? 0.5 : value]);
  const number = (name, value) => (name === "seed" ? Number(value) : value);
  const python = (value) => (typeof value === "string" ? JSON.stringify(value) : String(value));
  const shell = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;

  // A chat as its messages, null where the entry is a text; and what goes first in a call for either.
  const chat = ({ prompt, chat }) => chat && [...chat, { role: "user", content: prompt }];
  const first = (values) => (chat(values) ? `messages=${JSON.stringify(chat(values))}` : python(values.prompt));
  // What the command line takes for a chat: its words where it has just begun, else a file.
  const asked = (values) => {
    const messages = chat(values);
    if (!messages) return `python -m bon ${shell(values.prompt)}`;
    const [one, two] = messages;
    if (!two) return `python -m bon --chat ${shell(one.content)}`;
    if (messages.length === 2 && one.role === "system")
      return `python -m bon --chat ${shell(two.content)} --system ${shell(one.content)}`;
    return `printf %s ${shell(JSON.stringify(messages))} > chat.json\npython -m bon --messages chat.json`;
  };

  const CODE = {
    python: (values) => {
      const rest = named(values).map(([name, value]) => `, ${name}=${python(number(name, value))}`);
      return `import bon\n\nresult = bon.best_of_n(${first(values)}${rest.join("")})\nprint(result.best.score, result.best.text)`;
    },
    shell: (values) => {
      const flags = named(values).map(([name, value]) => ` --${name.replaceAll("_", "-")} ${/^[\w.]+$/.test(value) ? value : shell(value)}`);
      return `${asked(values)}${flags.join("")} --json`;
    },
    client: (values) => {
      const rest = named(values).map(([name, value]) => `, ${name}=${python(number(name, value))}`);
      return (
        `from gradio_client import Client\n\nclient = Client("${location.origin}")\n` +
        `result = client.predict(${first(values)}${rest.join("")}, api_name="/best_of_n")\nprint(result["candidates"][0])`
      );
    },
    curl: (values) => {
      const sent = chat(values) ? { messages: chat(values) } : { prompt: values.prompt };
      for (const [name, value] of named(values)) sent[name] = number(name, value);
      return (
        `BASE=${location.origin}/gradio_api/call\n` +
        `ID=$(curl -s $BASE/v2/best_of_n -H 'Content-Type: application/json' \\\n` +
        `  -d ${shell(JSON.stringify(sent))} | cut -d '"' -f 4)\ncurl -sN $BASE/best_of_n/$ID`
      );
    },
  };

  CODE.mcp = () => JSON.stringify({ mcpServers: { bon: { url: `${location.origin}/gradio_api/mcp/` } } }, null, 2);

  // Fills every code[data-code] with the present settings; values are in the order of the form's fields.
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
