// The run in progress as JSON, stored in case the page is left during it (also by Gradio's own reload).
{
  const STORAGE_KEY = "bon-left";

  // An empty draft removes the stored one.
  bon.saveDraft = (draft) => bon.store("sessionStorage", STORAGE_KEY, draft || null);

  // Returns the stored draft, or null, and removes it.
  bon.takeDraft = () => {
    const draft = bon.readStored("sessionStorage", STORAGE_KEY);
    bon.saveDraft(null);
    return draft;
  };
}
