"""Measurements of speed: bon beside its peers, and its own parts."""
