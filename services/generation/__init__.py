"""The generation service: answers from passages, with citations."""
