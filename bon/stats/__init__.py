"""Ranking, caps on lengths and the statistics of best-of-N."""
