"""The models in the box: the corpus that the project writes, and the training of what is shipped in assets/models.

Nothing here is imported by the app. `python -m bon.training` makes all but the tuned one from nothing,
`python -m bon.training.tune` that one.
"""
