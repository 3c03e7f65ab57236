"""acquire -> engine -> extract -> judge -> publish; `pipeline.py` joins them."""

__version__ = "0.1.0"
