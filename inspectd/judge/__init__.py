"""A verdict out of the regions: pure functions, and the loop that runs them."""
