"""The one error of decoders: what came is no event that can be read."""


class MalformedError(ValueError):
    """What is wrong with an event, in one line for the one who sent it; sending it again cannot help."""
