"""Arms from the command line: methods by name and fields, budgets, and the arms that every run includes."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Literal

from foveate.apps.budgets import parse_budget, parse_keep
from foveate.apps.encoder import EncoderOptions, check_method
from foveate.apps.evaluate.arms import BlindEvalArm, EvalArm, InDecoderEvalArm, PrunedEvalArm, UnprunedEvalArm
from foveate.apps.evaluate.encoded import EncodedEvalArm
from foveate.apps.evaluate.fewer import FewerEvalArm
from foveate.apps.evaluate.report import BLIND, UNPRUNED
from foveate.apps.evaluate.resized import ResizedEvalArm
from foveate.errors import InputError, describe
from foveate.method import Method, resolve, resolve_any
from foveate.method.blind import make_blind
from foveate.method.budget import check_keep
from foveate.method.grid import Grid
from foveate.method.inner import InnerMethod
from foveate.method.random import Random
from foveate.method.registry import METHODS
from foveate.pipeline.settings import Per, Positions
from foveate.policy import Policy

SPEC = re.compile(r"\s*(?P<name>[\w-]+)\s*(?:\((?P<fields>[^()]*)\))?\s*")
RANDOM_SEEDS = (0, 1, 2)


AnyMethod = Method | InnerMethod
Policies = Mapping[str, Policy | Literal["auto"]]


def parse_methods(text: str) -> dict[str, AnyMethod]:
    """`"zspaprune(core=0.6, relevance=word_max), divprune"` as methods, by their names in the results.

    Raises a `FoveateError` that says what is wrong with which part.
    """
    if not isinstance(text, str):
        raise InputError(
            f"methods={describe(text)} is not a text: write names, as in 'foveate,divprune'. A class of your own has a "
            "name once a package registers it (docs/add-a-method.md)."
        )
    methods: dict[str, AnyMethod] = {}
    for part in re.split(r",(?![^(]*\))", text):
        match = SPEC.fullmatch(part)
        if match is None:
            raise InputError(f"{part.strip()!r} is no method: write a name, or name(field=value, field=value).")
        name, arguments = match["name"], match["fields"]
        values = _parse_fields(name, arguments) if arguments and arguments.strip() else {}
        label = name + (f"({', '.join(f'{k}={v}' for k, v in values.items())})" if values else "")
        methods[label] = METHODS.load(name)(**values) if values else resolve_any(name)
    return methods


def parse_method(text: str) -> Method:
    """One method that prunes the input, by its name or as `name(field=value)`. Raises a `FoveateError` for others."""
    methods = list(parse_methods(text).values())
    if len(methods) != 1:
        raise InputError(f"{text!r} is not one method: give one (`foveate methods`).")
    method = methods[0]
    return method if isinstance(method, Method) else resolve(method.name)  # which says why not


def _parse_fields(name: str, text: str) -> dict[str, object]:
    known = [field.name for field in fields(METHODS.load(name))]
    values: dict[str, object] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in known:
            offer = f"it has {', '.join(known)}" if known else "it has no fields"
            raise InputError(f"{name} has no field {key!r} to set as in {part.strip()!r}: {offer}.")
        try:
            values[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            values[key] = value  # text without quotes: relevance=word_max
    return values


def parse_keeps(text: str) -> list[int | float]:
    """`"0.333,64"` as budgets: with a dot (or an exponent) a share, without one a number of tokens."""
    keeps = [parse_keep(part) for part in text.split(",")]
    for keep in keeps:
        check_keep(keep)
    if len(set(keeps)) < len(keeps):
        raise InputError(f"--keep {text!r} names a budget twice: leave one of them out.")
    return keeps


def parse_budgets(text: str) -> tuple[list[int | float], Policies]:
    """`"0.333,auto,mine.json"` as fixed budgets, and the policies by their names in the results."""
    parts = [part.strip() for part in text.split(",")]
    policies = {part: keep for part in parts if isinstance(keep := parse_budget(part), (Policy, str))}
    if sum(part in policies for part in parts) > len(policies):
        raise InputError(f"--keep {text!r} names a policy twice: leave one of them out.")
    fixed = ",".join(part for part in parts if part not in policies)
    return parse_keeps(fixed) if fixed else [], policies


def make_arms(
    methods: dict[str, AnyMethod], keeps: Sequence[int | float], *, policies: Policies = MappingProxyType({}),
    encoders: Sequence[EncoderOptions] = (), positions: Positions = "original", max_new_tokens: int = 8,
    resize: bool = True, per: Per = "image", modality: str = "image",
) -> list[EvalArm]:  # fmt: skip
    """The unpruned and the blind model, then for every budget resize, grid, random (three seeds) and the methods.

    For clips and histories of images "fewer" takes the place of resize: fewer frames, or the newest images.
    Behind a method that reads the question stands the same without it: the question is worth the distance. A policy is
    an arm of the method that it was calibrated with, "auto" of the default method. Every method has an arm more at
    each fixed budget for each of the `encoders`, which leave out tiles. Raises `InputError` for what cannot be.
    """
    if modality in ("video", "media"):
        _check_clips(policies, encoders, methods)
    _check_encoders(encoders, methods, keeps)
    tokens: dict[str, Any] = {"max_new_tokens": max_new_tokens}
    arms: list[EvalArm] = [UnprunedEvalArm(UNPRUNED, None, **tokens), BlindEvalArm(BLIND, None, **tokens)]
    beside: list[tuple[str, AnyMethod, int | None]] = [("grid", Grid(), None)]
    beside += [("random", Random(seed=seed), seed) for seed in RANDOM_SEEDS]
    for name, method in methods.items():
        if name not in ("grid", "random"):
            beside.append((name, method, None))
        blind = make_blind(method) if isinstance(method, Method) else None
        if blind and blind not in [other for _, other, _ in beside]:
            beside.append((f"{name}, blind", blind, None))
    for keep in keeps:
        if resize:
            arms.append(
                ResizedEvalArm("resize", keep, **tokens)
                if modality == "image"
                else FewerEvalArm("fewer", keep, **tokens)
            )
        for name, method, seed in beside:
            if isinstance(method, InnerMethod):
                arms.append(InDecoderEvalArm(name, keep, method=method, **tokens))
            else:
                arms.append(PrunedEvalArm(name, keep, method=method, seed=seed, positions=positions, per=per, **tokens))
        arms += [
            EncodedEvalArm(
                f"{name}, {encoder.label}", keep, method=method, seed=seed, positions=positions, encoder=encoder,
                **tokens,
            )
            for name, method, seed in beside
            for encoder in encoders
            if isinstance(method, Method) and (name in methods or name not in ("grid", "random"))
        ]  # fmt: skip
    for name, policy in policies.items():
        own = parse_method(policy.method if isinstance(policy, Policy) else "foveate")
        arms.append(PrunedEvalArm(own.name, name, method=own, policy=policy, positions=positions, per=per, **tokens))
    return arms


def _check_clips(policies: Policies, encoders: Sequence[EncoderOptions], methods: Mapping[str, AnyMethod]) -> None:
    """Raise `InputError` for what is for images alone."""
    for name in policies:
        raise InputError(f"--keep {name} is a policy for images, and questions are about clips: give numbers.")
    for encoder in encoders:
        if encoder.encode != 1:
            raise InputError(f"{encoder.label} is for images, and questions are about clips: leave it out.")
    for name, method in methods.items():
        if isinstance(method, InnerMethod):
            raise InputError(f"{name} prunes images, and questions are about clips: leave it out.")


def _check_encoders(
    encoders: Sequence[EncoderOptions], methods: Mapping[str, AnyMethod], keeps: Sequence[int | float]
) -> None:
    """Raise `InputError` where there is no arm to leave tiles out of."""
    if encoders and not keeps:
        raise InputError(
            f"{encoders[0].label} is not for a policy, which was calibrated on whole images: add a number to --keep, "
            "or leave encode out."
        )
    for encoder in encoders:
        for method in methods.values():
            check_method(encoder, method)
