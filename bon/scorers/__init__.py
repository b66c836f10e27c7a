"""Scorers rate candidates: `base` has their protocol, `factory` makes one of a name, pipeline or callable."""
