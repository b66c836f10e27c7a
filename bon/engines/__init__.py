"""What generates: `base` says what an engine is, `local` runs a model of transformers here, `server` asks a server."""
