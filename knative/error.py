"""The one error of this package."""


class DeployError(Exception):
    """What is wrong with a name, a wish or the cluster's answer: found, wanted, remedy, in one line."""
