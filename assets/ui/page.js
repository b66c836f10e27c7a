// The page around the result: keys, the settings' line, what is pressed while a run goes on.
(() => {
  const one = (selector) => document.querySelector(selector);
  const running = () => one("#generate")?.hasAttribute("data-running");

  // Generate and Stop look and read as what they can do now; view.js calls this.
  window.bon = window.bon || {};
  window.bon.running = (on) => {
    const generate = one("#generate"),
      stop = one("#stop");
    if (!generate || !stop) return;
    generate.toggleAttribute("data-running", on);
    generate.dataset.doing = bon.say("form.generating");
    generate.setAttribute("aria-disabled", on);
    stop.setAttribute("aria-disabled", !on);
  };

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (!running()) one("#generate")?.click();
    } else if (event.key === "Escape" && running()) {
      one("#stop")?.click();
    }
  });

  // Gradio names each button of a choice by itself, so that the arrows would not go from one to the next.
  document.addEventListener("keydown", (event) => {
    const way = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!way || event.target.type !== "radio") return;
    const all = [...event.target.closest("fieldset").querySelectorAll("input")];
    const next = all.at((all.indexOf(event.target) + way) % all.length);
    event.preventDefault();
    next.focus();
    next.click();
  });

  // The winner can become the next prompt, or what the next message of a chat answers, with the way back.
  const before = [];
  const write = (text, chat) => {
    const area = one("#prompt textarea");
    area.value = text;
    area.dispatchEvent(new Event("input", { bubbles: true }));
    bon.chatting.set(chat);
    const back = one(".back"),
      last = before.at(-1);
    back.hidden = last === undefined;
    if (!last) return;
    const was = last.text || last.chat?.at?.(-1)?.content || "";
    back.textContent = bon.say("form.back", { text: was.length > 40 ? `${was.slice(0, 40)}…` : was });
  };
  window.bon.goOn = (text, chat) => {
    before.push({ text: one("#prompt textarea").value, chat: bon.chatting.get() });
    write(text, chat);
    one("#prompt textarea").scrollIntoView({ block: "nearest" });
  };
  const goBack = () => {
    const { text, chat } = before.pop();
    write(text, chat);
  };

  const open = (on) => one("#settings-line")?.setAttribute("aria-expanded", on);
  document.addEventListener("click", (event) => {
    const line = event.target.closest?.("#settings-line");
    if (line) open(line.getAttribute("aria-expanded") !== "true");
    if (event.target.closest?.(".back")) goBack();
  });

  // The settings in one line.
  const plain = (value) => (value === null || value === undefined ? "–" : String(value));
  window.bon.summed = (low, high, temperature, topP, topK, seed, reject, select, softness) => {
    const parts = [
      ["summed.tokens", { low: plain(low), high: plain(high) }],
      ["summed.temperature", { value: plain(temperature) }],
      topP !== 1 && ["summed.top_p", { value: plain(topP) }],
      topK && ["summed.top_k", { value: plain(topK) }],
      seed?.trim() ? ["fact.seed", { seed: seed.trim() }] : ["summed.fresh"],
      reject && ["summed.reject"],
      select === "worst" && ["summed.worst"],
      select === "soft" && ["summed.soft", { value: plain(softness) }],
    ];
    return parts.filter(Boolean).map((part) => bon.say(...part)).join(", ");
  };

  // At fields Gradio writes what the server sent, keys and values, and now and then writes it again.
  const sayFaults = () => {
    for (const fault of document.querySelectorAll("#form .validation-error")) {
      const texts = document.createTreeWalker(fault, NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) {
        const node = texts.currentNode,
          words = bon.words(node.data.trim());
        if (words !== node.data.trim()) node.data = words;
      }
    }
  };

  // A message at a field that nobody can see helps nobody.
  const showFaults = () => {
    if (one("#settings .validation-error")) open(true);
    one("#form .validation-error")?.scrollIntoView({ block: "nearest" });
  };

  // The still goes when all that it stands for is there.
  const arrive = () => {
    if (!one("#settings-line") || !one(".bon[data-phase]") || !one(".chips li")) return setTimeout(arrive, 20);
    document.documentElement.removeAttribute("data-arriving");
    one(".arrival")?.remove();
  };
  arrive();

  const begin = () => {
    if (!one("#settings-line")) return setTimeout(begin, 50);
    open(false);
    document.title = bon.say("page.title");
    one("#settings-line").setAttribute("aria-controls", "settings");
    window.bon.running(Boolean(window.bon.busy));
    new MutationObserver((changes) => {
      sayFaults();
      if (changes.some((change) => [...change.addedNodes].some((node) => node.classList?.contains("validation-error"))))
        showFaults();
    }).observe(one("#form"), { childList: true, characterData: true, subtree: true });
  };
  begin();
})();
