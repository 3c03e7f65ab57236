"""Offline side of inspectd: train, export and evaluate the network a bundle carries.

The rooms, each importing only those before it: data, net, measure, train, then bundle and report, then what is
called: cli, peers, dev. `files` and `memory` serve all of them.
"""
