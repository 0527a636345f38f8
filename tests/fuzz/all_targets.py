"""Every target."""

from tests.fuzz import batch_rows, bodies, connections, events, files, mixes

TARGETS = (*batch_rows.TARGETS, *bodies.TARGETS, *connections.TARGETS, *events.TARGETS, *files.TARGETS, *mixes.TARGETS)
