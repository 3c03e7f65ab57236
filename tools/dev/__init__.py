"""Programs for who works on inspectd itself: the files of the wire protocol, and a wheel of pycuda."""
