// Copies a text to the clipboard.
{
  bon.copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without https only this way to the clipboard is left.
      const area = bon.el("textarea", { readonly: true, class: "unseen" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
}
