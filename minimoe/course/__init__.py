"""What the lessons need: showing code, checks, hints, progress, the workbench."""
