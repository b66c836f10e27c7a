"""The engine that runs a causal language model of transformers in this process."""
