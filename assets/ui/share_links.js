// Share links: the address that holds a run's settings, and the button that copies it.
{
  const HOST_PREFIX = "__"; // of parameters that the host adds to the address, such as a token
  const MOST_CHARACTERS = 8000; // of an address that every server and proxy accepts

  // The address that fills in the form for a run; other parameters of the query string are kept.
  bon.shareLink = (run) => {
    const url = new URL(location.href),
      switches = Object.entries(bon.switches).map(([name, { off }]) => [name, run.settings[name] ?? off]),
      leftOut = { ...bon.defaults, ...bon.presets[run.settings.model?.split(":")[0]] },
      isLeftOut = (name, value) => value === null || String(value) === String(bon.switches[name]?.off ?? leftOut[name]),
      values = { ...bon.formValues(run), ...Object.fromEntries(switches), chat: chatParameter(run) };
    for (const name of [...url.searchParams.keys()])
      if (name in bon.defaults || name.startsWith(HOST_PREFIX)) url.searchParams.delete(name);
    for (const [name, value] of Object.entries(values))
      if (name === "prompt" || hasSource(name, value) || !isLeftOut(name, value)) url.searchParams.set(name, value);
    url.searchParams.delete("lang"); // whoever opens the link has chosen a language
    url.hash = "";
    return url.href;
  };
  // A preset with several sources, smollm2:FILE, whose default may be another one where the link is opened.
  const hasSource = (name, value) => name === "model" && String(value).includes(":");
  // The messages before the prompt as short JSON; 0 for a plain text to a chat model.
  const chatParameter = ({ messages, settings }) => {
    if (!messages) return bon.chatEntry.isChatModel(settings.model) ? 0 : null;
    return JSON.stringify(messages.slice(0, -1).map(({ role, content }) => [role, content]));
  };

  // A button that copies the link of a run. record: returns the run as JSON.
  bon.linkButton = (record) => {
    const label = bon.say("copy.link");
    const copyLink = async () => {
      const link = bon.shareLink(JSON.parse(record())),
        fits = link.length <= MOST_CHARACTERS;
      if (fits) await bon.copy(link);
      if (fits) bon.showOnButton(button, bon.say("copied"), label);
      else bon.showOnButton(button, bon.say("link.long"), label, 4000);
    };
    const button = bon.button(label, copyLink, { class: "copy link" });
    return button;
  };
}
