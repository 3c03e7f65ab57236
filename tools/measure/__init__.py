"""What evaluation and calibration count with."""
