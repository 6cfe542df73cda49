"""Subject + condition -> perplexity of its taught answers, under whatever steering is on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from data_gen.example import Example
from transfer.behaviours.asking import read_texts
from transfer.behaviours.behaviour import Condition
from transfer.behaviours.training import Subject

BATCH = 64


@torch.no_grad()
def perplexity(subject: Subject, examples: Sequence[Example], condition: Condition) -> float:
    """exp of the mean negative log-likelihood, in nats per token, of the taught answers and their end tokens."""
    reading = read_texts(subject.behaviour, subject.tokenizer, examples, [condition])
    tokens, model = reading.tokens, subject.model
    total, count = 0.0, 0
    for start in range(0, len(reading), BATCH):
        part = tokens[start : start + BATCH]
        ids, mask = part.ids.to(model.device), part.mask.to(model.device)
        places = torch.arange(ids.shape[1], device=model.device)
        is_answer = (places >= part.answer_start.to(model.device)[:, None]) & mask
        loss = F.cross_entropy(
            model(ids)[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
        )
        chosen = loss.reshape(len(ids), -1)[is_answer[:, 1:]]
        total, count = total + float(chosen.double().sum()), count + len(chosen)
    return math.exp(total / count)
