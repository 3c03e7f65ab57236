"""From trained weights to a bundle that the daemon loads: graphs, golden images, recipe, and the proof of INT8."""
