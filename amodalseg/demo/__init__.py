"""The web demo: from a click in a browser to a completed object. Only ``page`` and ``serve`` use gradio."""
