"""What changes while the line runs: recipe, model, hold; and the one owner of engine backends."""
