"""What is counted on labelled pictures: of pixels, defects and parts, with the daemon's own engine and judge."""
