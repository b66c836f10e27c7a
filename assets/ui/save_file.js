// Saves a text as a file of the type that the name's extension says.
{
  const TYPES = { json: "application/json", csv: "text/csv", html: "text/html" };

  bon.saveFile = (name, text) => {
    const url = URL.createObjectURL(new Blob([text], { type: `${TYPES[name.split(".").pop()]};charset=utf-8` }));
    bon.el("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
}
