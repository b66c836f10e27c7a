"""The content policy of the server's answers: which scripts a browser runs, so that injected markup does not.

The page's own scripts are files of this server. Gradio's page has inline scripts too, with values that differ from
answer to answer: each gets the nonce that the policy of this one answer names.
"""

import re
import secrets

#: The header's name, as ASGI writes it.
HEADER = "content-security-policy"
#: The policy of all answers but the page: opened as a document, a file runs nothing. A picture may have styles.
FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
#: The host that a page on a Space asks whether the Space is awake.
HUB = "https://huggingface.co"

_SCRIPT_TAG = re.compile(rb"<script(?=[\s>])")
#: Where the page that Gradio answers for a share link (`share=True`) has Gradio's own scripts.
_SCRIPT_HOST = re.compile(rb'<script [^>]*src="(https://[\w.-]+)/')


def protect_page(page: bytes, on_space: bool) -> tuple[bytes, bytes]:
    """The page with a nonce at each script, and its policy. on_space: whether the server is a Space."""
    nonce = secrets.token_urlsafe(16)
    hosts = [host.decode() for host in _SCRIPT_HOST.findall(page)]
    policy = {
        # Gradio makes functions of the scripts of its events and components.
        "script-src": ["'self'", f"'nonce-{nonce}'", "'unsafe-eval'", *hosts],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "connect-src": ["'self'", *([HUB] if on_space else [])],
    }
    with_nonces = _SCRIPT_TAG.sub(f'<script nonce="{nonce}"'.encode(), page)
    return with_nonces, "; ".join(" ".join([name, *sources]) for name, sources in policy.items()).encode()
