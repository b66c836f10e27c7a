"""What is asked for: `Settings` and `Request`, and the checks of their values.

Nothing here holds a tensor, a file or a connection, so every value crosses threads, processes and HTTP as it is.
"""

from bon.settings.declaration import (
    FLOAT_MAX,
    FLOAT_MIN,
    Menu,
    NumberField,
    Setting,
    Switch,
    TextField,
    number,
    parse_digits,
    whole,
)
from bon.settings.request import Messages, Request, answered, checked_messages, clean, continues
from bon.settings.settings import N_MAX, SEED_MAX, SELECTIONS, TOKENS_MAX, UNITS, Sampling, Settings, declared

__all__ = [
    "FLOAT_MAX", "FLOAT_MIN", "N_MAX", "SEED_MAX", "SELECTIONS", "TOKENS_MAX", "UNITS", "Menu", "Messages",
    "NumberField", "Request", "Sampling", "Setting", "Settings", "Switch", "TextField", "answered",
    "checked_messages", "clean", "continues", "declared", "number", "parse_digits", "whole",
]
