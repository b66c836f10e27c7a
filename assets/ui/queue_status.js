// The state of a run as Gradio's status tracker shows it: in progress, its place in the queue, the connection.
{
  // Reads from Gradio's status tracker whether a run is in progress, its place in the queue, and failures.

  bon.trackQueue = (element, onChange) => {
    const node = element.closest(".block")?.querySelector('[data-testid="status-tracker"]');
    if (!node) return;
    let since = 0,
      last = "";
    const read = () => {
      const busy = !node.classList.contains("hide") && !node.querySelector(".error");
      const pending = busy && Boolean(node.querySelector(".progress-text"));
      if (!pending) since = 0;
      else if (!since) since = performance.now();
      const place = /queue: (\d+)\/(\d+)/.exec(node.textContent);
      // A place in the queue is shown only after it has lasted for a while.
      const waiting = pending && place && performance.now() - since > 800 ? Number(place[1]) : null;
      const state = JSON.stringify({ busy, pending, waiting });
      if (state !== last) onChange(JSON.parse((last = state)));
    };
    new MutationObserver(read).observe(node, { attributes: true, childList: true, subtree: true, characterData: true });
    read();
  };

  // What replaces parts of the view of a run whose connection is lost.
  bon.connectionLost = () => ({ phase: "failed", title: bon.say("lost.title"), line: bon.say("lost.line") });

  // Calls onChange(true) when a run ended but no final view has arrived after 4 seconds: the connection is lost.
  bon.watchConnection = (element, onChange) => {
    let timer = 0;
    bon.trackQueue(element, ({ busy }) => {
      clearTimeout(timer);
      if (busy) onChange(false);
      else timer = setTimeout(onChange, 4000, true);
    });
  };
}
