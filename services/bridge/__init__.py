"""What the transcoder cannot say, spoken by a small ASGI server behind the same gateway."""
