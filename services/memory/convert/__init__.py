"""Between the contract's messages and the service's values."""
