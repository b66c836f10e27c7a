// The Batch tab: a preview of the input, and the batches whose ids this browser stores. Batches run on the server, which
// shows one to whoever has its id.
{
  const STORAGE_KEY = "bon-batches";
  const MOST_IDS = 8;
  const POLL_INTERVAL = 1000; // milliseconds
  const IN_PROGRESS = ["loading", "running", "stopping"];

  const button = (label, act, more = {}) => {
    const node = bon.el("button", { type: "button", ...more }, label);
    node.addEventListener("click", act);
    return node;
  };

  const code = (text) => bon.el("pre", { tabindex: "0" }, bon.el("code", {}, text));

  // Gradio repeatedly gives the file field an aria-label that differs from its visible text.
  const removeFileLabel = () => {
    const field = document.querySelector("#batch-file");
    const remove = () => field.querySelector("button:has(input[type=file])")?.removeAttribute("aria-label");
    new MutationObserver(remove).observe(field, { childList: true, subtree: true });
    remove();
  };

  bon.batchPreview = (element, props, watch) => {
    const node = bon.el("div", { class: "preview", role: "status" });
    element.append(node);
    const draw = () => {
      const { title, line, prompts = [], error, command } = props.value ?? {};
      const parts = [
        error && bon.el("p", { class: "alert" }, bon.translate(error)),
        command && code(command),
        title && bon.el("p", {}, bon.el("b", {}, bon.translate(title)), " ", bon.translate(line)),
        prompts.length && bon.el("ul", {}, ...prompts.map((text) => bon.el("li", {}, text))),
      ];
      node.replaceChildren(...parts.filter(Boolean));
    };
    watch("value", draw);
    draw();
    removeFileLabel();
  };

  // The settings that this tab takes from the Generate tab, in one line.
  const SHARED = {
    target: ({ target }) => {
      const label = target?.toLowerCase();
      return target ? ["batch.shared.target", { label: bon.sayOr(`label.${label}`, label) }] : null;
    },
    model: ({ model }) => ["batch.shared.model", { name: model }],
    scorer: ({ scorer }) => (scorer ? ["batch.shared.scorer", { name: scorer }] : null),
  };
  bon.summarizeShared = (names, values) => bon.say("batch.shared", { list: bon.summarize(names, values, SHARED) });

  // The ids, that of the batch on display first. If the browser forbids storage, they last as long as the page.
  let ids = [];
  const readIds = () => {
    try {
      const stored = JSON.parse(localStorage.getItem(STORAGE_KEY));
      if (Array.isArray(stored)) ids = stored.filter((id) => typeof id === "string");
    } catch {
      // The ids in memory stay.
    }
    return ids;
  };
  const storeIds = (newIds) => {
    ids = newIds.slice(0, MOST_IDS);
    try {
      localStorage.setItem(STORAGE_KEY, JSON.stringify(ids));
    } catch {
      // The ids are in memory only.
    }
  };
  const putFirst = (id) => storeIds([id, ...readIds().filter((other) => other !== id)]);

  const size = (bytes) =>
    bytes < 1e5
      ? bon.say("batch.kilobytes", { value: String(Math.max(1, Math.round(bytes / 1e3))) })
      : bon.say("batch.megabytes", { value: (bytes / 1e6).toFixed(1) });
  // Gradio serves the files in its folder.
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
  const fact = ({ value, name }) => bon.el("div", {}, bon.el("dt", {}, bon.translate(name)), bon.el("dd", {}, bon.translate(value)));
  const failure = ({ row, error }) =>
    bon.el("li", {}, bon.el("small", {}, bon.say("batch.row", { number: row })), " ", bon.translate(error));

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
    const section = (key, ...nodes) => bon.el("section", { class: "panel" }, bon.el("h2", {}, bon.say(key)), ...nodes);
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
      status.live,
    );
    element.append(root);
    let timer = 0,
      requests = 0,
      errorMessage = "",
      drawnKeys = {};

    // Redraws a part only if its data have changed, so that selection and focus are kept.
    const put = (node, data, make) => {
      const key = JSON.stringify(data);
      if (drawnKeys[node.className] === key) return;
      drawnKeys[node.className] = key;
      node.replaceChildren(...data.map(make));
    };

    const act = async (id, action) => {
      errorMessage = "";
      if (action === "remove" && !confirm(bon.say("batch.removing"))) return;
      try {
        const view = await server.act({ id, do: action });
        if (view.phase === "gone") storeIds(readIds().filter((other) => other !== id));
        else if (view.error && view.phase !== "failed") errorMessage = view.error;
      } catch {
        errorMessage = bon.say("lost.title");
      }
      refresh();
    };

    const toolButton = (id) => (name) =>
      button(bon.say({ stop: "stop", resume: "batch.resume", remove: "batch.remove" }[name]), () => act(id, name), { class: "plain", "data-do": name });
    const toolsOf = ({ phase }) => {
      if (phase === "stopping") return [];
      if (IN_PROGRESS.includes(phase)) return ["stop"];
      return phase === "done" ? ["remove"] : ["resume", "remove"];
    };
    const otherBatch = ({ id, name, created, title, line, files = [] }) =>
      bon.el(
        "li",
        {},
        bon.el("p", {}, bon.el("b", {}, name), " ", formatTime(created), " · ", bon.translate(title), " ", bon.translate(line)),
        button(bon.say("batch.open"), () => (putFirst(id), refresh()), { class: "plain", "aria-label": `${bon.say("batch.open")}: ${name}` }),
        ...files.map(link),
      );
    const formatTime = (seconds) => new Date(seconds * 1000).toLocaleString(bon.language, { dateStyle: "medium", timeStyle: "short" });

    const draw = (views) => {
      const [view = { phase: "empty", title: bon.say("batch.empty"), line: bon.say("batch.empty.line") }, ...more] = views;
      const news = view.phase === "running" && bon.say("batch.news");
      status.draw(root, view, IN_PROGRESS.includes(view.phase), view.progress ?? 0, news);
      alert.draw(errorMessage || view.error);
      bon.text(about, view.id ? `${view.name} · ${formatTime(view.created)} · ${bon.say("batch.seed", { seed: view.seed })}` : "");
      put(tools, view.id ? [...(view.files ?? []), ...toolsOf(view)] : [], (item) => (item.path ? link(item) : toolButton(view.id)(item)));
      put(facts, view.facts ?? [], fact);
      put(notes, view.notes ?? [], (text) => bon.el("li", {}, bon.translate(text)));
      put(latest, view.latest ?? [], winner);
      put(errors, view.errors ?? [], failure);
      put(command, view.command ? [view.command] : [], code);
      put(others, more, otherBatch);
      winners.hidden = !view.latest?.length;
      failures.hidden = !view.errors?.length;
      same.hidden = !view.command;
      facts.hidden = !view.facts;
      earlier.hidden = !more.length;
    };

    // Asks the server for the batches' views, and again while one is running and the page is visible.
    const refresh = async () => {
      clearTimeout(timer);
      const number = ++requests;
      let views = [];
      try {
        views = readIds().length ? await server.views(ids) : [];
        views.length; // throws if the server does not answer: then Gradio returns nothing
      } catch {
        if (number === requests) (alert.draw(bon.say("lost.title")), (timer = setTimeout(refresh, 3 * POLL_INTERVAL)));
        return;
      }
      if (number !== requests) return;
      const gone = views.filter(({ phase }) => phase === "gone").map(({ id }) => id);
      if (gone.length) {
        storeIds(ids.filter((id) => !gone.includes(id)));
        errorMessage ||= bon.say("batch.gone");
      }
      views = views.filter(({ phase }) => phase !== "gone");
      draw(views);
      if (views.some(({ phase }) => IN_PROGRESS.includes(phase)) && !document.hidden) timer = setTimeout(refresh, POLL_INTERVAL);
    };

    watch("value", () => {
      const { started, error } = props.value ?? {};
      errorMessage = error ?? "";
      if (started) putFirst(started);
      refresh();
      if (error) root.scrollIntoView({ behavior: bon.reducedMotion() ? "auto" : "smooth", block: "nearest" });
    });
    document.addEventListener("visibilitychange", () => document.hidden || refresh());
    addEventListener("storage", ({ key }) => key === STORAGE_KEY && refresh());
    draw([]);
    refresh();
  };
}
