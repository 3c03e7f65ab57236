"""What both ends of the public sockets agree on: messages, requests, keys and endpoints."""
