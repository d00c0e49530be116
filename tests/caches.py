"""A filled KV cache as an argument, under the name that the installed transformers has for it."""

from foveate.models.cache import cache_name


def with_cache(model, cache):
    return {cache_name(type(model).forward): cache}
