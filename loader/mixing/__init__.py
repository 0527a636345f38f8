"""Mixes: a declared graph of models and conditions that is served as one model."""
