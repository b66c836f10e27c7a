"""What generates: `base` says what an engine is, `local` is torch and transformers."""
