"""The web demo: from a click in a browser to a completed object. ``page`` and ``serve`` alone know gradio."""
