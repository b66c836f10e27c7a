"""The engine that generates by an OpenAI-compatible server."""
