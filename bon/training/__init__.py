"""The corpus that the project wrote, and the training of the embedded models in assets/models.

Nothing here is imported by the app or part of the wheel. `python -m bon.training` trains all of them but the tuned one
from random weights, `python -m bon.training.tune` that one.
"""
