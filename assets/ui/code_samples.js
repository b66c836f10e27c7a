// The code samples of the About tab: the form's settings as a call from Python, a shell, gradio_client, curl and MCP.
{
  // The values that do not hold by themselves where a call leaves them out.
  const changedValues = (values) => {
    const leftOut = { ...bon.defaults, ...bon.modelValues() };
    return Object.entries(values).filter(
      ([name, value]) =>
        !["prompt", "chat"].includes(name) && value !== null && value !== "" && String(value) !== String(leftOut[name]),
    );
  };
  // A setting's value in a call or on the command line: that which a ticked switch stands for, lines for several texts.
  const argument = ([name, value]) => [name, value === true ? bon.switches[name].on : value];
  const isLines = (name) => bon.lines.includes(name);
  const shellArguments = (values) =>
    changedValues(values)
      .map(argument)
      .flatMap(([name, value]) => (isLines(name) ? value.split("\n").filter(Boolean) : [value]).map((v) => [name, v]));
  const callValue = (name, value) => (name === "seed" ? Number(value) : isLines(name) ? bon.readLines(value) : value);
  const callArguments = (values) =>
    changedValues(values)
      .map(argument)
      .map(([name, value]) => [name, callValue(name, value)]);
  const python = (value) => (["string", "object"].includes(typeof value) ? JSON.stringify(value) : String(value));
  const shell = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;

  // The messages of a chat, or null for a plain text.
  const messagesOf = ({ prompt, chat }) => chat && [...chat, { role: "user", content: prompt }];
  // The arguments of a Python call: the prompt or the messages, and the settings that are not at their defaults.
  const pythonArguments = (values) => {
    const messages = messagesOf(values);
    const first = messages ? `messages=${JSON.stringify(messages)}` : python(values.prompt);
    return [first, ...callArguments(values).map(([name, value]) => `${name}=${python(value)}`)].join(", ");
  };
  // The command for a prompt or a chat; a chat of more than one exchange goes through a file.
  const command = (values) => {
    const messages = messagesOf(values);
    if (!messages) return `python -m bon ${shell(values.prompt)}`;
    const [firstMessage, second] = messages;
    if (!second) return `python -m bon --chat ${shell(firstMessage.content)}`;
    if (messages.length === 2 && firstMessage.role === "system")
      return `python -m bon --chat ${shell(second.content)} --system ${shell(firstMessage.content)}`;
    return `printf %s ${shell(JSON.stringify(messages))} > chat.json\npython -m bon --messages chat.json`;
  };

  // Where the page is, also in a folder of a proxy's.
  const pageAddress = (location.origin + location.pathname).replace(/\/+$/, "");

  // The samples by the names that code_samples.html gives them.
  const SAMPLES = {
    python: (values) =>
      `import bon\n\nresult = bon.best_of_n(${pythonArguments(values)})\n` +
      `print(result.best.score, result.best.text)`,
    shell: (values) => {
      const word = (value) => (/^[\w.]+$/.test(value) ? value : shell(value));
      const options = shellArguments(values).map(([name, value]) => ` --${name.replaceAll("_", "-")} ${word(value)}`);
      return `${command(values)}${options.join("")} --json`;
    },
    client: (values) =>
      `from gradio_client import Client\n\nclient = Client("${pageAddress}")\n` +
      `result = client.predict(${pythonArguments(values)}, api_name="/best_of_n")\nprint(result["candidates"][0])`,
    curl: (values) => {
      const messages = messagesOf(values);
      const body = {
        ...(messages ? { messages } : { prompt: values.prompt }),
        ...Object.fromEntries(callArguments(values)),
      };
      return (
        `BASE=${pageAddress}/gradio_api/call\n` +
        `ID=$(curl -s $BASE/v2/best_of_n -H 'Content-Type: application/json' \\\n` +
        `  -d ${shell(JSON.stringify(body))} | cut -d '"' -f 4)\ncurl -sN $BASE/best_of_n/$ID`
      );
    },
    mcp: () => JSON.stringify({ mcpServers: { bon: { url: `${pageAddress}/gradio_api/mcp/` } } }, null, 2),
  };

  // Fills every code[data-code] with the form's settings; values are in the order of its fields.
  bon.fillCodeSamples = (...values) => {
    const valuesByName = Object.fromEntries(Object.keys(bon.defaults).map((name, i) => [name, values[i]]));
    for (const node of document.querySelectorAll("code[data-code]"))
      bon.setText(node, SAMPLES[node.dataset.code](valuesByName));
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.(".about [data-copies]");
    if (!button) return;
    await bon.copy(button.parentElement.querySelector("code").textContent);
    bon.showOnButton(button, bon.say("copied"), bon.say("copy"));
  });
}
