"""Comparisons of the base model, a tuned model and best-of-N over many prompts."""
