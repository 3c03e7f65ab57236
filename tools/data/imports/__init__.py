"""From the files of a labelling tool to a data set folder; one module per format."""
