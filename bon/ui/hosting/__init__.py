"""How the page is hosted: what the environment says, limits of a public page, what goes into the log."""
