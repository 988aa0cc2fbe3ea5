"""Text to vectors: load a model, convert it to ONNX, tokenize, run, pool."""
