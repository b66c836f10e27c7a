"""The ASGI layers between the network and Gradio's routes: a class for each concern, put together in `stack`."""
