// The Batch tab's preview of the input, and the line of the settings that it takes from the Generate tab.
{
  bon.codeBlock = (code) => bon.el("pre", { tabindex: "0" }, bon.el("code", {}, code));

  // Gradio repeatedly gives the file field an aria-label that differs from its visible text.
  const removeFileLabel = () => {
    const field = document.querySelector("#batch-file");
    const remove = () => field.querySelector("button:has(input[type=file])")?.removeAttribute("aria-label");
    new MutationObserver(remove).observe(field, { childList: true, subtree: true, attributeFilter: ["aria-label"] });
    remove();
  };

  bon.batchPreview = (element, props, watch) => {
    const node = bon.el("div", { class: "preview", role: "status" });
    element.append(node);
    const draw = () => {
      const { title, line, prompts = [], error, command } = props.value ?? {};
      const parts = [
        error && bon.el("p", { class: "alert" }, bon.translate(error)),
        command && bon.codeBlock(command),
        title && bon.el("p", {}, bon.el("b", {}, bon.translate(title)), " ", bon.translate(line)),
        prompts.length && bon.el("ul", {}, ...prompts.map((text) => bon.el("li", {}, text))),
      ];
      node.replaceChildren(...parts.filter(Boolean));
    };
    watch("value", draw);
    draw();
    removeFileLabel();
  };

  const SHARED = {
    target: ({ target }) => {
      const label = target?.toLowerCase();
      return target ? ["batch.shared.target", { label: bon.sayOr(`label.${label}`, label) }] : null;
    },
    model: ({ model }) => ["batch.shared.model", { name: model }],
    scorer: ({ scorer }) => (scorer ? ["batch.shared.scorer", { name: scorer }] : null),
  };
  // The settings that this tab takes from the Generate tab, in one line.
  bon.summarizeShared = (defaults, values) =>
    bon.say("batch.shared", { list: bon.summarize(defaults, values, SHARED) });
}
