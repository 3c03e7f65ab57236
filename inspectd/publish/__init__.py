"""The result out of the process: the publish thread, its journal, its public sockets and who may use them."""
