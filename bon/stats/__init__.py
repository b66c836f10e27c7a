"""The statistics of best-of-N, the ranking, early rejection's checkpoints, and the draws of caps and random streams."""
