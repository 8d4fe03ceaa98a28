"""Watching a classifier in use: from a log of its predictions to alarms and to what to do next."""
