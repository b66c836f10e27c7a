"""The key for a server: where it is read, which texts are no key, and how it is kept out of messages.

The key goes to the official client alone: no log, result or error holds it.
"""

import base64
import html
import json
import os
import re
from collections.abc import Mapping
from urllib.parse import quote, quote_plus

from bon.errors import InputError
from bon.messages import say

#: The environment variables that may hold the key; the first one that is set counts.
KEY_VARIABLES = ("BON_API_KEY", "OPENAI_API_KEY")
BYTE_ORDER_MARK = "\ufeff"
#: Shorter keys, such as the "none" that servers without keys are given, are masked only where they are a whole word.
SHORTEST_SECRET = 8


def read_key(environment: Mapping[str, str] = os.environ) -> str | None:
    """The key of the first variable that holds more than white space, without white space and marks around it.

    Secret files end in a line end, and some begin with a byte order mark, which an HTTP header cannot hold. Raises
    `InputError`, which names the variable but does not quote its value, for a key with control characters or characters
    beyond ASCII inside.
    """
    for variable in KEY_VARIABLES:
        if key := environment.get(variable, "").strip().strip(BYTE_ORDER_MARK).strip():
            if not (key.isascii() and key.isprintable()):
                raise InputError("endpoint", say("error.key_has_odd_characters", variable=variable))
            return key
    return None


def mask_key(text: str, key: str | None) -> str:
    """The text with `***` in place of the key, as it is or as programs quote and encode it."""
    if not key:
        return text
    written = {key, repr(key)[1:-1], json.dumps(key)[1:-1], quote(key), quote(key, safe=""), quote_plus(key),
               html.escape(key), key.encode().hex()}
    written |= {encode(key.encode()).decode().rstrip("=") for encode in
                (base64.b64encode, base64.urlsafe_b64encode)}
    pattern = "|".join(map(re.escape, sorted(written, key=len, reverse=True)))
    if len(key) < SHORTEST_SECRET:
        return re.sub(rf"(?<!\w)({pattern})(?!\w)", "***", text)
    return re.sub(pattern, "***", text, flags=re.IGNORECASE)
