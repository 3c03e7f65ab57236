"""From labelled pictures to a data set worth training on."""
