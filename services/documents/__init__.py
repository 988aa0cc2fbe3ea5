"""The document service: files in, passages out, nothing lost on the way."""
