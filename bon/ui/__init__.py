"""The browser page: `page_layout` places its parts and wires them to the handlers, `theme` says how it looks.

Each tab has a folder: `generate`, `compare`, `batch`. `endpoint` is the HTTP interface, `work` what computes for all.
"""
