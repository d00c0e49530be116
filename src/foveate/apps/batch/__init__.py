"""`foveate batch`: answer a file of questions about images on Ray, each row exactly once.

run.py is the whole run: formats.py reads the file and cuts it into shards, cluster.py connects to Ray, workers.py hands
the shards to workers, shard.py answers one with an engine (engines/), and folder.py writes its answers to disk.
"""
