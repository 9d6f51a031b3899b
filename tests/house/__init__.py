"""The house itself: set-up, dependencies, files, committed notebooks, and a browser that opens the door."""
