"""Several vLLM engines that prune, behind one address: an application of Ray Serve.

    pip install 'foveate[vllm]' 'ray[serve]>=2.60'
    serve run examples.ray_serve:build model=bundled keep=0.1 replicas=2 max_model_len=1024

It serves OpenAI's protocol at http://127.0.0.1:8000/v1. The same command starts it on a cluster, from its head node or
with RAY_ADDRESS set, once the packages and the model are on every node. `keep`, `method`, `positions`, `turn` and
`reuse` are those of `foveate.integrations.vllm.overrides`; what is not named here goes to the engine, as
`tensor_parallel_size=2` does. On a machine without a GPU, `cpus=2` gives each replica as many cores.
"""

from __future__ import annotations

import inspect
import json
import os
from typing import TYPE_CHECKING, Any

from foveate.integrations.vllm import overrides
from foveate.runtime.load import locate

if TYPE_CHECKING:
    from ray.serve import Application

PRUNING = inspect.signature(overrides).parameters.keys() - {"model"}
ENGINE_ALONE = {"ray_actor_options": {"num_cpus": 0}}  # the actor around the engine takes no core of its own
HEALTH = {"health_check_period_s": 5, "health_check_timeout_s": 30}  # a replica that hangs is replaced


def build(arguments: dict[str, str]) -> Application:
    """The application; Ray Serve calls this with the NAME=VALUE pairs of the command line."""
    from ray.serve.llm import LLMConfig, build_openai_app

    values = {name: parse_value(value) for name, value in arguments.items()}
    model, replicas, cpus = values.pop("model", "bundled"), values.pop("replicas", 1), values.pop("cpus", None)
    pruning = {"keep": 0.1} | {name: values.pop(name) for name in PRUNING & values.keys()}
    config = LLMConfig(
        model_loading_config={"model_id": model, "model_source": locate(model)},
        engine_kwargs={"hf_overrides": overrides(model, **pruning), **values},
        deployment_config={"num_replicas": replicas, **HEALTH, **({} if cpus is None else ENGINE_ALONE)},
        **({} if cpus is None else use_cpus(cpus)),
    )
    ingress = {"autoscaling_config": None, "num_replicas": replicas, "ray_actor_options": {"num_cpus": 0.1}}
    return build_openai_app({"llm_configs": [config], "ingress_deployment_config": ingress})


def parse_value(text: str) -> Any:
    """A number, a boolean or an object, as in JSON; other words as they are."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def use_cpus(count: float) -> dict[str, Any]:
    """Cores for each replica, with the settings of vLLM on CPUs that this process has in its environment."""
    variables = {name: value for name, value in os.environ.items() if name.startswith(("VLLM_", "OMP_", "HF_"))}
    return {
        "accelerator_config": {"kind": "cpu"},
        "placement_group_config": {"bundle_per_worker": {"CPU": count}},
        "runtime_env": {"env_vars": variables},
    }
