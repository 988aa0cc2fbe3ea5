"""Answers that are streamed: written once to a log, read by anybody from anywhere in it."""
