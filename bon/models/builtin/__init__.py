"""bon's built-in models, computed and loaded without transformers' models, whose import takes a second."""
