"""The browser page. `launch` serves it; `page` puts it together; `app_state` is what its handlers share.

`generate`, `compare` and `batch` are its tabs: `layout` makes the components, `handlers` is what their events call.
`work` computes for all of them, `hosting` has the limits of a public page, `http_interface` is the endpoint.
"""
