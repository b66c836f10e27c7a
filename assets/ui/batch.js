// The Batch tab: what is about to be done, and the batches that this browser keeps the ids of. Each goes on at the
// server, which tells of one to whoever has its id.
{
  const PLACE = "bon-batches";
  const KEPT = 8;
  const EVERY = 1000; // milliseconds between two looks at what goes on
  const GOES_ON = ["loading", "running", "stopping"];

  const button = (words, does, more = {}) => {
    const node = bon.el("button", { type: "button", ...more }, words);
    node.addEventListener("click", does);
    return node;
  };

  const code = (text) => bon.el("pre", { tabindex: "0" }, bon.el("code", {}, text));

  // Gradio names the field for a file by other words than stand in it, again and again.
  const nameFile = () => {
    const field = document.querySelector("#batch-file");
    const name = () => field.querySelector("button:has(input[type=file])")?.removeAttribute("aria-label");
    new MutationObserver(name).observe(field, { childList: true, subtree: true });
    name();
  };

  bon.batchPreview = (element, props, watch) => {
    const node = bon.el("div", { class: "preview", role: "status" });
    element.append(node);
    const draw = () => {
      const { title, line, prompts = [], error, command } = props.value ?? {};
      const parts = [
        error && bon.el("p", { class: "alert" }, bon.words(error)),
        command && code(command),
        title && bon.el("p", {}, bon.el("b", {}, bon.words(title)), " ", bon.words(line)),
        prompts.length && bon.el("ul", {}, ...prompts.map((text) => bon.el("li", {}, text))),
      ];
      node.replaceChildren(...parts.filter(Boolean));
    };
    watch("value", draw);
    draw();
    nameFile();
  };

  // What the tab takes from Generate, in one line.
  bon.shared = (target, temperature, topP, topK, model, scorer) => {
    const label = target?.toLowerCase();
    const parts = [
      target && ["batch.shared.target", { label: bon.known(`label.${label}`, label) }],
      ["summed.temperature", { value: String(temperature ?? "–") }],
      topP !== 1 && ["summed.top_p", { value: String(topP) }],
      topK && ["summed.top_k", { value: String(topK) }],
      ["batch.shared.model", { name: model }],
      scorer && ["batch.shared.scorer", { name: scorer }],
    ];
    return bon.say("batch.shared", { list: parts.filter(Boolean).map((part) => bon.say(...part)).join(", ") });
  };

  // The ids, the one that is shown first. Where nothing may be stored, they last as long as the page.
  let ids = [];
  const recall = () => {
    try {
      const kept = JSON.parse(localStorage.getItem(PLACE));
      if (Array.isArray(kept)) ids = kept.filter((id) => typeof id === "string");
    } catch {
      // Then what is known stays.
    }
    return ids;
  };
  const keep = (changed) => {
    ids = changed.slice(0, KEPT);
    try {
      localStorage.setItem(PLACE, JSON.stringify(ids));
    } catch {
      // As above.
    }
  };
  const first = (id) => keep([id, ...recall().filter((other) => other !== id)]);

  const size = (bytes) =>
    bytes < 1e5
      ? bon.say("batch.kilobytes", { value: String(Math.max(1, Math.round(bytes / 1e3))) })
      : bon.say("batch.megabytes", { value: (bytes / 1e6).toFixed(1) });
  // Gradio serves what is in its folder.
  const link = ({ path, name, size: bytes }) =>
    bon.el(
      "a",
      { class: "download", href: `gradio_api/file=${encodeURIComponent(path)}`, download: name },
      bon.say("batch.download", { name }),
      bon.el("small", {}, ` ${size(bytes)}`),
    );

  const winner = ({ row, prompt, text, score }) =>
    bon.el(
      "li",
      {},
      bon.el("b", { class: "score" }, score),
      bon.el("p", { class: "text" }, bon.el("span", { class: "prompt" }, prompt), text),
      bon.el("small", {}, bon.say("batch.row", { number: row })),
    );
  const fact = ({ value, name }) => bon.el("div", {}, bon.el("dt", {}, bon.words(name)), bon.el("dd", {}, bon.words(value)));
  const failure = ({ row, error }) =>
    bon.el("li", {}, bon.el("small", {}, bon.say("batch.row", { number: row })), " ", bon.words(error));

  bon.batch = (element, props, watch, server) => {
    const status = bon.status(),
      alert = bon.alert(),
      about = bon.el("p", { class: "under" }),
      tools = bon.el("div", { class: "tools" }),
      facts = bon.el("dl", { class: "facts" }),
      notes = bon.el("ul", { class: "notes" }),
      latest = bon.el("ol", { class: "winners" }),
      errors = bon.el("ul", { class: "errors" }),
      command = bon.el("div", { class: "command" }),
      others = bon.el("ul", { class: "others" });
    const section = (words, ...nodes) => bon.el("section", { class: "panel" }, bon.el("h2", {}, bon.say(words)), ...nodes);
    const winners = section("batch.latest", latest),
      failures = section("batch.errors", errors),
      same = bon.el("details", {}, bon.el("summary", {}, bon.say("batch.command")), command),
      earlier = section("batch.earlier", others);
    const root = bon.el(
      "section",
      { class: "batch", "aria-label": bon.say("batch.region") },
      status.node,
      alert.node,
      bon.el("div", { class: "head" }, about, tools),
      facts,
      notes,
      winners,
      failures,
      same,
      earlier,
      status.said,
    );
    element.append(root);
    let timer = 0,
      asking = 0,
      complaint = "",
      drawn = {};

    // Draws a part anew only where it has changed, so that what is selected or has the focus stays so.
    const put = (node, data, make) => {
      const key = JSON.stringify(data);
      if (drawn[node.className] === key) return;
      drawn[node.className] = key;
      node.replaceChildren(...data.map(make));
    };

    const act = async (id, action) => {
      complaint = "";
      if (action === "remove" && !confirm(bon.say("batch.removing"))) return;
      try {
        const made = await server.act({ id, do: action });
        if (made.phase === "gone") keep(recall().filter((other) => other !== id));
        else if (made.error && made.phase !== "failed") complaint = made.error;
      } catch {
        complaint = bon.say("lost.title");
      }
      look();
    };

    const tool = (id) => (name) =>
      button(bon.say({ stop: "stop", resume: "batch.resume", remove: "batch.remove" }[name]), () => act(id, name), { class: "plain", "data-do": name });
    const toolsOf = ({ phase }) => {
      if (phase === "stopping") return [];
      if (GOES_ON.includes(phase)) return ["stop"];
      return phase === "done" ? ["remove"] : ["resume", "remove"];
    };
    const other = ({ id, name, created, title, line, files = [] }) =>
      bon.el(
        "li",
        {},
        bon.el("p", {}, bon.el("b", {}, name), " ", when(created), " · ", bon.words(title), " ", bon.words(line)),
        button(bon.say("batch.open"), () => (first(id), look()), { class: "plain", "aria-label": `${bon.say("batch.open")}: ${name}` }),
        ...files.map(link),
      );
    const when = (seconds) => new Date(seconds * 1000).toLocaleString(bon.language, { dateStyle: "medium", timeStyle: "short" });

    const draw = (views) => {
      const [view = { phase: "empty", title: bon.say("batch.empty"), line: bon.say("batch.empty.line") }, ...more] = views;
      const news = view.phase === "running" && bon.say("batch.news");
      status.draw(root, view, GOES_ON.includes(view.phase), view.progress ?? 0, news);
      alert.draw(complaint || view.error);
      bon.text(about, view.id ? `${view.name} · ${when(view.created)} · ${bon.say("batch.seed", { seed: view.seed })}` : "");
      put(tools, view.id ? [...(view.files ?? []), ...toolsOf(view)] : [], (one) => (one.path ? link(one) : tool(view.id)(one)));
      put(facts, view.facts ?? [], fact);
      put(notes, view.notes ?? [], (text) => bon.el("li", {}, bon.words(text)));
      put(latest, view.latest ?? [], winner);
      put(errors, view.errors ?? [], failure);
      put(command, view.command ? [view.command] : [], code);
      put(others, more, other);
      winners.hidden = !view.latest?.length;
      failures.hidden = !view.errors?.length;
      same.hidden = !view.command;
      facts.hidden = !view.facts;
      earlier.hidden = !more.length;
    };

    // Asks the server, and again while something goes on and somebody looks.
    const look = async () => {
      clearTimeout(timer);
      const mine = ++asking;
      let views = [];
      try {
        views = recall().length ? await server.seen(ids) : [];
        views.length; // where nobody answers, Gradio gives nothing
      } catch {
        if (mine === asking) (alert.draw(bon.say("lost.title")), (timer = setTimeout(look, 3 * EVERY)));
        return;
      }
      if (mine !== asking) return;
      const gone = views.filter(({ phase }) => phase === "gone").map(({ id }) => id);
      if (gone.length) {
        keep(ids.filter((id) => !gone.includes(id)));
        complaint ||= bon.say("batch.gone");
      }
      views = views.filter(({ phase }) => phase !== "gone");
      draw(views);
      if (views.some(({ phase }) => GOES_ON.includes(phase)) && !document.hidden) timer = setTimeout(look, EVERY);
    };

    watch("value", () => {
      const { started, error } = props.value ?? {};
      complaint = error ?? "";
      if (started) first(started);
      look();
      if (error) root.scrollIntoView({ behavior: bon.calm() ? "auto" : "smooth", block: "nearest" });
    });
    document.addEventListener("visibilitychange", () => document.hidden || look());
    addEventListener("storage", ({ key }) => key === PLACE && look());
    draw([]);
    look();
  };
}
