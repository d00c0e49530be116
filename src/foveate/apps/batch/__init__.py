"""`foveate batch`: answer a file of questions about images on Ray, each row exactly once.

run.py is the whole run: sources/ cuts the file into shards, cluster.py connects to Ray, workers.py hands the shards to
workers, shard.py answers one with an engine (engines/), and folder.py writes its answers to disk.
"""
