"""Files become text with structure, and text becomes passages: detect, parse, clean, chunk."""
