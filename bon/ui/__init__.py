"""The browser page: `render` says what is shown, `layout` and `theme` say how it looks, and `handlers`, `batched` and
`endpoint` answer what is asked of it.
"""
