"""Batch jobs by reference: files in storage run through a model, in bounded memory and resumable."""
