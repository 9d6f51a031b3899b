"""The model, one idea a file, in the order in which the course teaches them."""
