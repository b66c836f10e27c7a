"""Hosting: settings from environment variables, the limits of a public page, and the server's log."""
