// The Batch tab's view of the batches whose keys this browser stores. Batches run on the server, which shows one to
// whoever has its key.
{
  const POLL_INTERVAL = 1000; // milliseconds
  const IN_PROGRESS = ["loading", "running", "stopping"];

  const fileSize = (bytes) =>
    bytes < 1e5
      ? bon.say("batch.kilobytes", { value: String(Math.max(1, Math.round(bytes / 1e3))) })
      : bon.say("batch.megabytes", { value: (bytes / 1e6).toFixed(1) });
  // Gradio serves the files in its folder.
  const fileLink = ({ path, name, size: bytes }) =>
    bon.el(
      "a",
      { class: "download", href: `gradio_api/file=${encodeURIComponent(path)}`, download: name },
      bon.say("batch.download", { name }),
      bon.el("small", {}, ` ${fileSize(bytes)}`),
    );

  const winnerItem = ({ row, prompt, text, score }) =>
    bon.el(
      "li",
      {},
      bon.el("b", { class: "score" }, score),
      bon.el("p", { class: "text" }, bon.el("span", { class: "prompt" }, prompt), text),
      bon.el("small", {}, bon.say("batch.row", { number: row })),
    );
  const failureItem = ({ row, error }) =>
    bon.el("li", {}, bon.el("small", {}, bon.say("batch.row", { number: row })), " ", bon.translate(error));

  bon.batchView = (element, props, watch, server) => {
    const status = bon.statusLine(),
      alert = bon.alert(),
      headline = bon.el("p", { class: "under" }),
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
      commandFold = bon.el("details", {}, bon.el("summary", {}, bon.say("batch.command")), command),
      earlier = section("batch.earlier", others);
    const root = bon.el(
      "section",
      { class: "batch", "aria-label": bon.say("batch.region") },
      status.node,
      alert.node,
      bon.el("div", { class: "head" }, headline, tools),
      facts,
      notes,
      winners,
      failures,
      commandFold,
      earlier,
      status.live,
    );
    element.append(root);
    let timer = 0,
      requests = 0,
      errorMessage = "";
    const drawnKeys = {};

    // Redraws a part, an item of `data` each, only if the data have changed, so that selection and focus are kept.
    const put = (node, data, makeItem) => {
      const key = JSON.stringify(data);
      if (drawnKeys[node.className] === key) return;
      drawnKeys[node.className] = key;
      node.replaceChildren(...data.map(makeItem));
    };

    const act = async (key, action) => {
      errorMessage = "";
      if (action === "remove" && !confirm(bon.say("batch.removing"))) return;
      try {
        const view = await server.act({ key, do: action });
        if (view.phase === "gone") bon.batchKeys.remove([key]);
        else if (view.error && view.phase !== "failed") errorMessage = view.error;
      } catch {
        errorMessage = bon.say("lost.title");
      }
      refresh();
    };

    const LABELS = { stop: "stop", resume: "batch.resume", remove: "batch.remove" };
    const actionButton = (key, action) =>
      bon.button(bon.say(LABELS[action]), () => act(key, action), { class: "plain", "data-do": action });
    const actionsOf = ({ phase }) => {
      if (phase === "stopping") return [];
      if (IN_PROGRESS.includes(phase)) return ["stop"];
      return phase === "done" ? ["remove"] : ["resume", "remove"];
    };
    const open = (key) => {
      bon.batchKeys.putFirst(key);
      refresh();
    };
    const otherBatch = ({ key, name, created, title, line, files = [] }) =>
      bon.el(
        "li",
        {},
        bon.el(
          "p",
          {},
          bon.el("b", {}, name),
          " ",
          creationTime({ created }),
          " · ",
          bon.translate(title),
          " ",
          bon.translate(line),
        ),
        bon.button(bon.say("batch.open"), () => open(key), {
          class: "plain",
          "aria-label": `${bon.say("batch.open")}: ${name}`,
        }),
        ...files.map(fileLink),
      );
    const creationTime = ({ created }) => bon.formatTime(created * 1000);
    const headlineOf = (view) => `${view.name} · ${creationTime(view)} · ${bon.say("batch.seed", { seed: view.seed })}`;

    const draw = (views) => {
      const [view = { phase: "empty", title: bon.say("batch.empty"), line: bon.say("batch.empty.line") }, ...more] =
        views;
      const news = view.phase === "running" && bon.say("batch.news");
      status.draw(root, view, IN_PROGRESS.includes(view.phase), view.progress ?? 0, news);
      alert.draw(errorMessage || view.error);
      bon.setText(headline, view.key ? headlineOf(view) : "");
      const downloadOrAction = (item) => (item.path ? fileLink(item) : actionButton(view.key, item));
      put(tools, view.key ? [...(view.files ?? []), ...actionsOf(view)] : [], downloadOrAction);
      put(facts, view.facts ?? [], ({ name, value }) => bon.fact(bon.translate(name), bon.translate(value)));
      put(notes, view.notes ?? [], (text) => bon.el("li", {}, bon.translate(text)));
      put(latest, view.latest ?? [], winnerItem);
      put(errors, view.errors ?? [], failureItem);
      put(command, view.command ? [view.command] : [], bon.codeBlock);
      put(others, more, otherBatch);
      winners.hidden = !view.latest?.length;
      failures.hidden = !view.errors?.length;
      commandFold.hidden = !view.command;
      facts.hidden = !view.facts;
      earlier.hidden = !more.length;
    };

    // Asks the server for the batches' views, and again while one is running and the page is visible.
    const refresh = async () => {
      clearTimeout(timer);
      const request = ++requests;
      let views = [];
      try {
        const keys = bon.batchKeys.all();
        views = keys.length ? await server.views(keys) : [];
        views.length; // throws if the server does not answer: then Gradio returns nothing
      } catch {
        if (request !== requests) return;
        alert.draw(bon.say("lost.title"));
        timer = setTimeout(refresh, 3 * POLL_INTERVAL);
        return;
      }
      if (request !== requests) return;
      const gone = views.filter(({ phase }) => phase === "gone").map(({ key }) => key);
      if (gone.length) {
        bon.batchKeys.remove(gone);
        errorMessage ||= bon.say("batch.gone");
      }
      views = views.filter(({ phase }) => phase !== "gone");
      draw(views);
      if (views.some(({ phase }) => IN_PROGRESS.includes(phase)) && !document.hidden)
        timer = setTimeout(refresh, POLL_INTERVAL);
    };

    watch("value", () => {
      const { started, error } = props.value ?? {};
      errorMessage = error ?? "";
      if (started) bon.batchKeys.putFirst(started);
      refresh();
      if (error) bon.scrollIntoView(root, "nearest");
    });
    document.addEventListener("visibilitychange", () => document.hidden || refresh());
    bon.batchKeys.watch(refresh);
    draw([]);
    refresh();
  };
}
