"""Requests between the revisions of one service: another version, a label, a user's arm, a shadow."""
