"""Base, tuned and best-of-N side by side over many prompts."""
