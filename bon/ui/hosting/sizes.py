"""How large a request may be: uploads, JSON, and the records of runs, in bytes, by the limits of the deployment."""

import math

from bon.ui.hosting.deployment import CHARACTERS_PER_TOKEN, Deployment

KB, MB = 2**10, 2**20
#: What a request needs beside the part that grows with the limits: the form's other values, the headers of a part.
FORM_BYTES, PART_BYTES = 256 * KB, 64 * KB
#: The most bytes of a request in private mode, and of a file in both modes.
PRIVATE_BYTES, PRIVATE_FILE_BYTES, PUBLIC_FILE_BYTES = 64 * MB, 50 * MB, MB
#: The most bytes of all uploads of a visitor of a public page, and of all batches with which a further one may start.
VISITOR_BYTES = 20 * MB
#: The most values of a JSON text in private mode.
PRIVATE_VALUES = 1_000_000
#: The most bytes of a character: as `\\u2026` in a record, whose backslash is doubled where it is sent as a JSON text.
CHARACTER_BYTES = 7
#: Of a record the bytes of a candidate's numbers and names, and of a token's log-probability with brackets and quotes.
CANDIDATE_BYTES, TOKEN_BYTES = 2 * KB, 64
#: Of a record the values of a candidate without its tokens, and of a token: a pair of its text and its log-probability.
CANDIDATE_VALUES, TOKEN_VALUES = 32, 3


def file_bytes(deployment: Deployment) -> int:
    """Of an uploaded file."""
    return PUBLIC_FILE_BYTES if deployment.public else PRIVATE_FILE_BYTES


def upload_bytes(deployment: Deployment) -> int:
    """Of a request that uploads a file."""
    return file_bytes(deployment) + PART_BYTES


def visitor_upload_bytes(deployment: Deployment) -> float:
    """Of all uploads of a visitor together."""
    return VISITOR_BYTES if deployment.public else math.inf


def json_bytes(deployment: Deployment) -> int:
    """Of a request with the form's values. A character has up to six bytes, as `\\u2026`."""
    return FORM_BYTES + 6 * deployment.prompt if deployment.public else PRIVATE_BYTES


def record_bytes(deployment: Deployment) -> int:
    """Of a request with the record of a run, which has each text twice: as a whole and in the pieces of its tokens."""
    if not deployment.public:
        return PRIVATE_BYTES
    candidate = CANDIDATE_BYTES + deployment.tokens * (2 * CHARACTERS_PER_TOKEN * CHARACTER_BYTES + TOKEN_BYTES)
    return json_bytes(deployment) + CHARACTER_BYTES * deployment.prompt + deployment.n * candidate


def json_values(deployment: Deployment) -> int:
    """How many values a JSON text may have: a form has some fifty, each message of a chat three, each candidate two."""
    return 1000 + 4 * deployment.prompt + 2 * deployment.n if deployment.public else PRIVATE_VALUES


def record_values(deployment: Deployment) -> float:
    """How many values the record of a run may have; in private mode its bytes alone are limited."""
    candidate = CANDIDATE_VALUES + deployment.tokens * TOKEN_VALUES
    return json_values(deployment) + deployment.n * candidate if deployment.public else math.inf
