"""`foveate batch`: a file of questions about pictures, answered on Ray, each row exactly once.

run.py is the whole of it: source.py cuts the file into shards, cluster.py hands them to workers, work.py answers one
with an engine (hf.py, vllm.py), and in folder.py the answers of a shard appear at once or not at all.
"""
