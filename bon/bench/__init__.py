"""Measurements: bon beside its peers, and its own parts."""
