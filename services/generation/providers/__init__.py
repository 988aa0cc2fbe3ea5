"""The protocols of endpoints: a prompt to HTTP, server-sent events to pieces of an answer."""
