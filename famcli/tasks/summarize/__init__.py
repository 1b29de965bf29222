"""Summaries of texts of any length in one pass: quotes with their places, or written from notes."""
