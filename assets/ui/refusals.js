// The server's refusals in the page's language, and the errors that Gradio's own scripts write in English.
{
  // Gradio shows the line of a refusal as it comes, but for the status 503 a text of its own.
  const fetchAnswer = window.fetch;
  window.fetch = async (...request) => {
    const answer = await fetchAnswer(...request);
    if (answer.ok || !answer.headers.get("content-type")?.startsWith("application/json")) return answer;
    const refusal = await answer.clone().json();
    if (!refusal?.message) return answer;
    const line = bon.translateDescribed(refusal.message);
    document.dispatchEvent(new CustomEvent("bon:refused", { detail: line }));
    const body = JSON.stringify({ ...refusal, detail: line, error: line });
    return new Response(body, { status: answer.status === 503 ? 429 : answer.status, headers: answer.headers });
  };

  // What Gradio's scripts write, and the key of the text to show for it.
  const GRADIO_ERRORS = [
    [/^File\(s\) exceed the maximum allowed size of (?<most>[\d.]+ \w+)/, "error.file_size"],
    [/^Connection errored out/, "error.connection"],
  ];
  const translated = (text) => {
    const refused = /^HTTP \d+: (\{.*\})$/s.exec(text); // of an upload
    if (refused) return JSON.parse(refused[1]).detail;
    for (const [pattern, key] of GRADIO_ERRORS) {
      const match = pattern.exec(text);
      if (match) return bon.say(key, match.groups);
    }
    return text;
  };

  const begin = () => {
    const toasts = document.querySelector(".toast-wrap");
    if (!toasts) return setTimeout(begin, 50);
    const translateToasts = () => bon.changeTexts(toasts, translated);
    new MutationObserver(translateToasts).observe(toasts, { childList: true, characterData: true, subtree: true });
  };
  begin();
}
