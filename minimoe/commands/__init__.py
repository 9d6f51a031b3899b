"""What the command line does beyond calling the library: talking, comparing, and being polite in a terminal."""
