"""What is asked for: `Settings` and `Request`, and the checks of their values.

Nothing here holds a tensor, a file or a connection, so every value crosses threads, processes and HTTP as it is.
"""

from bon.settings.declaration import (
    FLOAT_MAX,
    FLOAT_MIN,
    LinesField,
    Menu,
    NumberField,
    Setting,
    Switch,
    TextField,
    clean,
    number,
    parse_digits,
    read_escapes,
    whole,
    write_escapes,
)
from bon.settings.defaults import OF_MODELS, Defaults
from bon.settings.request import Messages, Request, answered, checked_messages, continues
from bon.settings.settings import N_MAX, SEED_MAX, SELECTIONS, TOKENS_MAX, UNITS, Sampling, Settings, declared

__all__ = [
    "FLOAT_MAX", "FLOAT_MIN", "N_MAX", "OF_MODELS", "SEED_MAX", "SELECTIONS", "TOKENS_MAX", "UNITS", "Defaults",
    "LinesField", "Menu", "Messages", "NumberField", "Request", "Sampling", "Setting", "Settings", "Switch",
    "TextField", "answered", "checked_messages", "clean", "continues", "declared", "number", "parse_digits",
    "read_escapes", "whole", "write_escapes",
]
