"""Every target."""

from tests.fuzz import bodies, connections, events, files, mixes

TARGETS = (*bodies.TARGETS, *connections.TARGETS, *events.TARGETS, *files.TARGETS, *mixes.TARGETS)
