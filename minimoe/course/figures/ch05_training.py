"""Chapter 05: a language model that sees three tokens, with one of three feed-forwards, trained within a second."""

from collections.abc import Sequence
from random import Random

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.course.capture import DOMAINS
from minimoe.model.experts import swiglu
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.corpus.documents import document

SEEN = 3  # tokens before the one that is guessed
EVERY = 20  # steps between two measurements


def windows(tokenizer: Tokenizer, split: str, each: int, seed: str) -> Tensor:
    """(window, 4): every run of four tokens in `each` texts of every domain, "train" or "held-out"."""
    texts = [document(Random(f"{seed} {n}"), split, domain).text for n in range(each) for domain in DOMAINS]
    ids = torch.cat([torch.tensor(tokenizer.encode(text)) for text in texts])
    return ids.unfold(0, SEEN + 1, 1)


class ThreeTokens(nn.Module):
    """Guesses a token from the three before it: embed, one feed-forward, head. All kinds have equally many parameters.

    kind: "SwiGLU" with `ffn` neurons and three matrices; "ReLU" or "GELU" with 1.5 times as many and two matrices.
    """

    def __init__(self, kind: str, vocab: int, seed: int, hidden: int = 96, ffn: int = 256):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def draw(out: int, into: int, deviation: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(out, into, generator=generator) * deviation)

        self.kind, neurons = kind, ffn if kind == "SwiGLU" else 3 * ffn // 2
        self.embed, self.head = draw(vocab, hidden // SEEN, 1.0), draw(vocab, hidden, hidden**-0.5)
        self.up, self.down = draw(neurons, hidden, hidden**-0.5), draw(hidden, neurons, neurons**-0.5)
        if kind == "SwiGLU":
            self.gate = draw(neurons, hidden, hidden**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        """ids: (token, 3) -> logits (token, vocab)."""
        x = rearrange(self.embed[ids], "token position hidden -> token (position hidden)")
        x = x + self.feed_forward(F.rms_norm(x, x.shape[-1:]))
        return F.linear(F.rms_norm(x, x.shape[-1:]), self.head)

    def feed_forward(self, x: Tensor) -> Tensor:
        """(token, hidden) -> (token, hidden)."""
        if self.kind == "SwiGLU":
            return swiglu(x, self.gate, self.up, self.down)
        inner = F.linear(x, self.up)
        return F.linear(F.relu(inner) if self.kind == "ReLU" else F.gelu(inner), self.down)


def train(
    kind: str, seen: Tensor, held_out: Tensor, vocab: int, seed: int, steps: int = 100, batch: int = 96
) -> list[float]:
    """The loss on held-out windows every 20 steps, from step 0. seen, held_out: (window, 4).

    The seed fixes the first weights and the order of the data, which is the same for all kinds.
    """
    model = ThreeTokens(kind, vocab, seed)
    moments = [(p, torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()]
    generator, losses = torch.Generator().manual_seed(seed), []
    with torch.enable_grad():
        for step in range(steps + 1):
            if step % EVERY == 0:
                losses.append(float(loss_of(model, held_out).detach()))
            loss = loss_of(model, seen[torch.randint(len(seen), (batch,), generator=generator)])
            loss.backward()
            adam(moments, step + 1)
    return losses


@torch.no_grad()
def adam(moments: Sequence[tuple[nn.Parameter, Tensor, Tensor]], step: int, rate: float = 0.01) -> None:
    """One step of Adam (Kingma & Ba 2014) for (parameter, mean, mean square), with its usual decay rates.

    By hand, because torch.optim imports PyTorch's compiler, which takes longer than the training itself.
    """
    for parameter, mean, square in moments:
        assert parameter.grad is not None
        mean.lerp_(parameter.grad, 0.1)
        square.lerp_(parameter.grad**2, 0.001)
        size = (square / (1 - 0.999**step)).sqrt() + 1e-8
        parameter.sub_(rate * mean / (1 - 0.9**step) / size)
        parameter.grad = None


def loss_of(model: ThreeTokens, four: Tensor) -> Tensor:
    """Cross-entropy of the fourth token in nats. four: (window, 4)."""
    return F.cross_entropy(model(four[:, :SEEN]), four[:, SEEN])
