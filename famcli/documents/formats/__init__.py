"""The kinds of documents that are turned into text, each told by its content and read in constant memory."""

CONVERSION = 1
"""Rises when a format gives another text for the same file: what was read by an earlier version is read again."""
