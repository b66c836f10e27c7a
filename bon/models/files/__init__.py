"""Files of models: GGUF files by name, by header and by transformers' loader, and whether memory has room for them."""
