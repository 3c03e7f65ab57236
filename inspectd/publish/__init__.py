"""The result out of the process: the wire contract, the journal, the ZeroMQ loop."""
