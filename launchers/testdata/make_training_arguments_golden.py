"""Writes training_arguments.json: name and default of every field of transformers' TrainingArguments.

usage: python make_training_arguments_golden.py > training_arguments.json       (transformers 5.17.0)
"""
import dataclasses
import json

from transformers import TrainingArguments


def default_of(field):
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None


print(json.dumps({field.name: default_of(field) for field in dataclasses.fields(TrainingArguments)}, indent=0))
