"""The ASGI layers that look at who sends a request: the visitor's address, the host that it names, its website."""
