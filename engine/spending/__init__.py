"""What answers of language models cost: prices, bounds of tokens, and what a budget grants."""
