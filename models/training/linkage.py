"""Training task: vectors of a protected image and of its original agree, those of other images do not."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.models.networks.link_encoder import LinkEncoder
from unveil.models.training.loop import TrainingTask, to_model_input

_MAX_LOGIT_SCALE = math.log(100)


class LinkageTask(TrainingTask):
    """Contrastive training of two encoders from pairs (InfoNCE in both directions, learned temperature)."""

    def __init__(self, width: int, dimensions: int, rate: float) -> None:
        self.protected, self.plain = LinkEncoder(width, dimensions), LinkEncoder(width, dimensions)
        self.logit_scale = nn.ParameterDict({"scale": nn.Parameter(torch.tensor(math.log(10.0)))})
        self.networks = nn.ModuleDict({"protected": self.protected, "plain": self.plain, "logits": self.logit_scale})
        self.optimizers = [torch.optim.AdamW(self.networks.parameters(), rate, weight_decay=1e-2)]

    def step(self, images: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        protected, plain = map(to_model_input, images)
        scale = self.logit_scale["scale"].clamp(max=_MAX_LOGIT_SCALE).exp()
        logits = scale * self.protected(protected) @ self.plain(plain).T
        own = torch.arange(len(logits), device=logits.device)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        self.optimizers[0].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[0].step()
        return {"loss": loss.detach()}
