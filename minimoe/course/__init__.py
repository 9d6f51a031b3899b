"""Tools for the lessons: source display, checks, hints, progress and the workbench."""
