"""The chat service: questions answered from collections, with citations that were checked."""
