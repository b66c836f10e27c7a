// The page around the result: keyboard shortcuts, Generate and Stop, the way back to an earlier prompt, the line that
// sums up the settings, errors at fields, and the end of the first paint.
(() => {
  const find = (selector) => document.querySelector(selector);
  const running = () => find("#generate")?.hasAttribute("data-running");

  // Shows on Generate and Stop whether a run is in progress; view.js calls this.
  window.bon = window.bon || {};
  window.bon.setRunning = (on) => {
    const generate = find("#generate"),
      stop = find("#stop");
    if (!generate || !stop) return;
    generate.toggleAttribute("data-running", on);
    generate.dataset.doing = bon.say("form.generating");
    generate.setAttribute("aria-disabled", on);
    stop.setAttribute("aria-disabled", !on);
  };

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!running()) find("#generate")?.click();
    } else if (event.key === "Escape" && running()) {
      find("#stop")?.click();
    }
  });

  // Gradio gives every radio button a name of its own, so arrow keys would not move between them.
  document.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || event.target.type !== "radio") return;
    const all = [...event.target.closest("fieldset").querySelectorAll("input")];
    const next = all.at((all.indexOf(event.target) + step) % all.length);
    event.preventDefault();
    next.focus();
    next.click();
  });

  // The winner can become the next prompt, or the last answer of a chat; earlier prompts are kept for the way back.
  const earlier = [];
  const setPrompt = (text, chat) => {
    const area = find("#prompt textarea");
    area.value = text;
    area.dispatchEvent(new Event("input", { bubbles: true }));
    bon.chatEntry.set(chat);
    const back = find(".back"),
      last = earlier.at(-1);
    back.hidden = last === undefined;
    if (!last) return;
    const lastText = last.text || last.chat?.at?.(-1)?.content || "";
    back.textContent = bon.say("form.back", { text: lastText.length > 40 ? `${lastText.slice(0, 40)}…` : lastText });
  };
  window.bon.continueFrom = (text, chat) => {
    earlier.push({ text: find("#prompt textarea").value, chat: bon.chatEntry.get() });
    setPrompt(text, chat);
    find("#prompt textarea").scrollIntoView({ block: "nearest" });
  };
  const goBack = () => {
    const { text, chat } = earlier.pop();
    setPrompt(text, chat);
  };

  const openSettings = (on) => find("#settings-line")?.setAttribute("aria-expanded", on);
  document.addEventListener("click", (event) => {
    const line = event.target.closest?.("#settings-line");
    if (line) openSettings(line.getAttribute("aria-expanded") !== "true");
    if (event.target.closest?.(".back")) goBack();
  });

  // The settings in one line.
  const plain = (value) => (value === null || value === undefined ? "–" : String(value));
  // How a setting reads there, as a key with its values; null where it is not worth a word. Any other setting reads as its
  // label and value where it is not at its default.
  const SUMMARY = {
    min_tokens: ({ min_tokens, max_tokens }) => ["summed.tokens", { low: plain(min_tokens), high: plain(max_tokens) }],
    max_tokens: () => null,
    temperature: ({ temperature }) => ["summed.temperature", { value: plain(temperature) }],
    top_p: ({ top_p }) => (top_p === 1 ? null : ["summed.top_p", { value: plain(top_p) }]),
    top_k: ({ top_k }) => (top_k ? ["summed.top_k", { value: plain(top_k) }] : null),
    seed: ({ seed }) => (seed?.trim() ? ["fact.seed", { seed: seed.trim() }] : ["summed.fresh"]),
    reject: ({ reject }) => (reject ? ["summed.reject"] : null),
    select: ({ select, softness }) =>
      ({ worst: ["summed.worst"], soft: ["summed.soft", { value: plain(softness) }] })[select] ?? null,
    softness: () => null,
  };
  const summarizeOther = (name, value) => {
    if (value === null || value === "" || String(value) === String(bon.defaults?.[name])) return null;
    const shown = value === true ? "" : bon.sayOr(`${name}.${value}`, plain(value));
    return ["summed.setting", { name: bon.say(`form.${name}`), value: shown }];
  };
  // names, values: of settings. describers: by name, in place of those of SUMMARY.
  window.bon.summarize = (names, values, describers = {}) => {
    const settings = Object.fromEntries(names.map((name, i) => [name, values[i]]));
    return names
      .map((name) => {
        const describe = describers[name] ?? SUMMARY[name];
        return describe ? describe(settings) : summarizeOther(name, settings[name]);
      })
      .filter(Boolean)
      .map((part) => bon.say(...part).trim())
      .join(", ");
  };

  // Translates errors at fields: Gradio writes there the keys and values that the server sent, sometimes repeatedly.
  const translateErrors = () => {
    for (const error of document.querySelectorAll("#form .validation-error")) {
      const texts = document.createTreeWalker(error, NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) {
        const node = texts.currentNode,
          text = bon.translate(node.data.trim());
        if (text !== node.data.trim()) node.data = text;
      }
    }
  };

  // Brings an error at a hidden field into view.
  const showErrors = () => {
    if (find("#settings .validation-error")) openSettings(true);
    find("#form .validation-error")?.scrollIntoView({ block: "nearest" });
  };

  // Removes the first paint (arrival.html) when the parts that it stands for are there.
  const removeFirstPaint = () => {
    if (!find("#settings-line") || !find(".bon[data-phase]") || !find(".chips li")) return setTimeout(removeFirstPaint, 20);
    document.documentElement.removeAttribute("data-arriving");
    find(".arrival")?.remove();
  };
  removeFirstPaint();

  const begin = () => {
    if (!find("#settings-line")) return setTimeout(begin, 50);
    openSettings(false);
    document.title = bon.say("page.title");
    find("#settings-line").setAttribute("aria-controls", "settings");
    window.bon.setRunning(Boolean(window.bon.busy));
    new MutationObserver((changes) => {
      translateErrors();
      if (changes.some((change) => [...change.addedNodes].some((node) => node.classList?.contains("validation-error"))))
        showErrors();
    }).observe(find("#form"), { childList: true, characterData: true, subtree: true });
  };
  begin();
})();
