"""Results: frozen values, one module an area of the contract."""
