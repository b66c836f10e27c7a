"""The page's work: models on their way, runs, who goes first, and how long a run takes."""
