"""Regions out of the score map: pure functions, shared by the daemon and the offline tool."""
