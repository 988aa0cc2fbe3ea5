"""The control plane: desired → resources (pure) → snapshot → per-stream state → ADS.

It tells Envoy and proxyless gRPC clients which nodes serve what. Requests never pass through it:
without it, both go on with the last configuration that they accepted.
"""
