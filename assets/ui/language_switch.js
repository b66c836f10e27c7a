// The choice of the language. It is stored in this browser and reloads the page; the form keeps its values.
{
  const FORM_KEY = "bon-form";
  let newLanguage = bon.language;

  bon.languageSelect = (element) => {
    setGradioLanguage();
    const option = (tag) => bon.el("option", { value: tag, lang: tag }, bon.tables[tag]["language.name"]);
    const select = bon.el(
      "select",
      { "aria-label": bon.say("language.choose") },
      ...Object.keys(bon.tables).map(option),
    );
    select.value = bon.language;
    select.addEventListener("change", () => {
      newLanguage = select.value;
      document.querySelector("#speak").click(); // calls bon.switchLanguage with the form's values
    });
    element.append(select);
  };

  // If the browser forbids storage, the address still holds the language, but the form's values are lost.
  bon.switchLanguage = (...values) => {
    bon.store("sessionStorage", FORM_KEY, JSON.stringify(values));
    bon.storeLanguage(newLanguage);
    const address = new URL(location.href);
    address.searchParams.set("lang", newLanguage);
    location.assign(address);
  };

  // Removes the form's values from before the reload and returns them by name; null if there are none.
  bon.takeStoredForm = (names) => {
    const values = JSON.parse(bon.readStored("sessionStorage", FORM_KEY));
    bon.store("sessionStorage", FORM_KEY, null);
    return values?.length === names.length ? Object.fromEntries(names.map((name, i) => [name, values[i]])) : null;
  };

  // Gradio uses the browser's language; only a function of its core module can set another one.
  const setGradioLanguage = async () => {
    if (document.documentElement.lang === bon.language) return;
    const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
    const { changeLocale } = await import(loaded.find((name) => /\/core-[^/]+\.js$/.test(name)));
    changeLocale(bon.language);
  };

  // Updates of the tabs' names, which Gradio does not redraw when the language changes.
  bon.tabNames = (...keys) => keys.map((key) => ({ __type__: "update", label: bon.say(key) }));

  // Gradio sets the page's title when it builds the page.
  const translateTitle = () => {
    if (!document.querySelector("#settings-line")) return setTimeout(translateTitle, 50);
    document.title = bon.say("page.title");
  };
  translateTitle();
}
