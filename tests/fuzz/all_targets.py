"""Every target."""

from tests.fuzz import bodies, connections, events, files

TARGETS = (*bodies.TARGETS, *connections.TARGETS, *events.TARGETS, *files.TARGETS)
