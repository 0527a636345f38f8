"""Limits and defaults of jobs, for the command line too: importing them costs nothing."""

BATCH_ROWS = 128
"""Rows that the model gets at once."""

MAX_BATCH_ROWS = 1 << 20

PART_ROWS = 1 << 16
"""Rows of one part: what is lost when a job is killed."""

MAX_ROW_BYTES = 64 << 20
"""A longer row (a line, a record) is a bad one: memory holds whole rows."""

SERVER_CONCURRENCY = 4
MODEL_CONCURRENCY = 2
"""Batches at the same time. In this process one is read and written while another runs."""

MAX_CONCURRENCY = 256

TIMEOUT = 300.0
"""Seconds for one batch with all tries: a service that wakes from zero takes a while."""
