"""The browser page: `render` says what is shown, `handlers` does the work, `layout` and `theme` say how it looks."""
