"""The deploy function: what makes an upload a revision, put together."""
