"""Files of models: GGUF files and LoRA adapters, the progress of downloads, and whether memory has room for a model."""
