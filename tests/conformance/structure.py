"""The structure of a configuration: everything but its numbers."""

from transformers import PreTrainedConfig

# Of the file, of training, or of generation: no part of the model.
NO_STRUCTURE = {
    "_name_or_path", "architectures", "bos_token_id", "chunk_size_feed_forward", "dtype", "eos_token_id", "id2label",
    "is_decoder", "is_encoder_decoder", "label2id", "model_type", "name_or_path", "output_attentions",
    "output_hidden_states", "pad_token_id", "problem_type", "return_dict", "tie_encoder_decoder", "torch_dtype",
    "transformers_version", "use_cache", "vocab_size", "vocabulary_map",
}  # fmt: skip


def read_structure(config, path=""):
    """By path: the class of every part, what is None, flags, names such as activations, kinds of layers; no numbers."""
    structure = {f"{path}class": type(config).__name__}
    for name, value in vars(config).items():
        if name in NO_STRUCTURE or name.startswith("_") or name.endswith(("_token_id", "_token_index")):
            continue
        if isinstance(value, PreTrainedConfig):
            structure |= read_structure(value, f"{path}{name}.")
        elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
            structure |= {f"{path}{name}.{key}": kind for key, kind in read_kinds(value)}
        else:
            structure[f"{path}{name}"] = read_kind(value)
    return structure


def read_kinds(values):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", kind) for key, kind in read_kinds(value))
        else:
            yield name, read_kind(value)


def read_kind(value):
    if value is None or isinstance(value, (bool, str)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(sorted({read_kind(one) for one in value}))}]"
    return "numbers" if isinstance(value, dict) else "number"


def compare_structures(published, tiny):
    """By path, what differs: "in the published one -> in the tiny one"."""
    one, other = read_structure(published), read_structure(tiny)
    paths = sorted(path for path in {*one, *other} if one.get(path) != other.get(path))
    return {path: f"{one.get(path, '-')} -> {other.get(path, '-')}" for path in paths}
