// Our line in Gradio's form that asks for the password, in the page's language. Gradio's own words there are in the
// browser's.
{
  const begin = () => {
    const form = document.querySelector(".auth");
    if (!form) return document.querySelector("#settings-line") ? null : setTimeout(begin, 50);
    form.textContent = bon.say("login.message");
    form.setAttribute("role", "status");
    document.title = bon.say("page.title");
    document.documentElement.lang = bon.language;
    // Gradio's form says nothing to a visitor who has tried too often.
    document.addEventListener("bon:refused", ({ detail }) => (form.textContent = detail));
  };
  begin();
}
