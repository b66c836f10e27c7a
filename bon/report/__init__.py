"""Results as files, charts and numbers for readers."""
