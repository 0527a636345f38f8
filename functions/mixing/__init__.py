"""Mixes in this server: their steps ask models of this process and of other services."""
