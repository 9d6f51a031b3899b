"""Small models trained within a minute, to compare recipes: chapter 11."""
