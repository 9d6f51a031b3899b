"""Natural answers to 03.1 and 03.5: how fast each pair turns, and how far the slowest one reaches."""

import math

import numpy as np
import torch

from tests.course.natural_answers.collect import Collection

collection = Collection("03.1", "03.5")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 03.1 frequencies -----------------------------------------------------------------------------------------------------


@wrong("03.1", "j / d, the 2 forgotten", "2")
def _(head_dim, theta):
    return theta ** -(torch.arange(head_dim // 2).float() / head_dim)


@wrong("03.1", "one for each channel", "shape", "pair", "channel")
def _(head_dim, theta):
    return theta ** (-2 * torch.arange(head_dim).float() / head_dim)


@wrong("03.1", "each angle twice, as in the tables", "shape", "pair", "twice")
def _(head_dim, theta):
    pace = theta ** -(torch.arange(0, head_dim, 2).float() / head_dim)
    return torch.cat((pace, pace))


@wrong("03.1", "minus sign forgotten", "sign", "minus", "grow", "faster", "fast", "inverse", "tokens")
def _(head_dim, theta):
    return theta ** (torch.arange(0, head_dim, 2).float() / head_dim)


@wrong("03.1", "the usual 10,000", "10,000", "10000", "theta")
def _(head_dim, theta):
    return 10_000.0 ** -(torch.arange(0, head_dim, 2).float() / head_dim)


@wrong("03.1", "pairs counted from 1", "first", "from 1", "from 0", "pair 0")
def _(head_dim, theta):
    return theta ** -(2 * torch.arange(1, head_dim // 2 + 1).float() / head_dim)


@wrong("03.1", "linspace with its end", "end", "last", "step", "head_dim - 2", "reach")
def _(head_dim, theta):
    return theta ** -torch.linspace(0, 1, head_dim // 2)


@wrong("03.1", "evenly spaced frequencies", "even", "linear", "power", "ratio")
def _(head_dim, theta):
    return torch.linspace(1, 1 / theta, head_dim // 2)


@wrong("03.1", "slowest first", "order", "revers", "slowest", "fastest")
def _(head_dim, theta):
    return (theta ** -(torch.arange(0, head_dim, 2).float() / head_dim)).flip(0)


@wrong("03.1", "tokens for a turn", "turn", "2 pi", "wavelength", "tokens", "period")
def _(head_dim, theta):
    return 2 * math.pi * theta ** (torch.arange(0, head_dim, 2).float() / head_dim)


@wrong("03.1", "times 2 pi", "2 pi", "radian", "turn")
def _(head_dim, theta):
    return 2 * math.pi / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)


@wrong("03.1", "turns instead of radians", "2 pi", "radian", "turn")
def _(head_dim, theta):
    return theta ** -(torch.arange(0, head_dim, 2).float() / head_dim) / (2 * math.pi)


@wrong("03.1", "float64 of NumPy", "dtype", "float32", "float64")
def _(head_dim, theta):
    return torch.from_numpy(theta ** -(np.arange(0, head_dim, 2) / head_dim))


@wrong("03.1", "computed in bfloat16", "bfloat16", "precision", "rounded", "digits")
def _(head_dim, theta):
    return (theta ** -(torch.arange(0, head_dim, 2).bfloat16() / head_dim)).float()


@wrong("03.1", "division of integers", "integer", "//", "all", "whole")
def _(head_dim, theta):
    return theta ** -(torch.arange(0, head_dim, 2) // head_dim).float()


@wrong("03.1", "a list", "list", "tensor", "type")
def _(head_dim, theta):
    return [theta ** (-2 * j / head_dim) for j in range(head_dim // 2)]


@wrong("03.1", "power before division", "head_dim", "divide", "exponent", "bracket")
def _(head_dim, theta):
    return theta ** (-2 * torch.arange(head_dim // 2).float()) / head_dim


@wrong("03.1", "theta to the power of -2, times j / d", "exponent", "bracket", "power", "multipl")
def _(head_dim, theta):
    return theta**-2 * torch.arange(head_dim // 2).float() / head_dim


@wrong("03.1", "head_dim - 1 below", "head_dim", "last", "1")
def _(head_dim, theta):
    return theta ** -(torch.arange(0, head_dim, 2).float() / (head_dim - 1))


@wrong("03.1", "base and divisor exchanged", "theta", "head_dim", "exchanged", "swapped", "base")
def _(head_dim, theta):
    return head_dim ** -(torch.arange(0, head_dim, 2).float() / theta)


@wrong("03.1", "every second pair", "shape", "pair", "half")
def _(head_dim, theta):
    return theta ** -(torch.arange(0, head_dim // 2, 2).float() / head_dim)


@wrong("03.1", "exp without the logarithm of theta", "log", "exp", "theta", "base", "e ")
def _(head_dim, theta):
    return torch.exp(-torch.arange(0, head_dim, 2).float() / head_dim)


@wrong("03.1", "log10 with exp", "log", "natural", "base", "slow")
def _(head_dim, theta):
    return torch.exp(-torch.arange(0, head_dim, 2).float() / head_dim * math.log10(theta))


@wrong("03.1", "the square root twice: 4 j / d", "2", "exponent", "twice")
def _(head_dim, theta):
    return theta ** -(2 * torch.arange(0, head_dim, 2).float() / head_dim)


@right("03.1", "a list of floats as a tensor")
def _(head_dim, theta):
    return torch.tensor([theta ** (-2 * j / head_dim) for j in range(head_dim // 2)])


@right("03.1", "exp and log")
def _(head_dim, theta):
    return torch.exp(torch.arange(0, head_dim, 2, dtype=torch.float32) * (-math.log(theta) / head_dim))


@right("03.1", "torch.pow in double, cast at the end")
def _(head_dim, theta):
    half = head_dim // 2
    return torch.pow(theta, -torch.arange(half, dtype=torch.float64) / half).float()


@right("03.1", "product of equal ratios")
def _(head_dim, theta):
    ratios = torch.full((head_dim // 2,), theta ** (-2 / head_dim), dtype=torch.float64)
    ratios[0] = 1
    return ratios.cumprod(0).float()


@right("03.1", "logspace")
def _(head_dim, theta):
    half = head_dim // 2
    return torch.logspace(0, -(half - 1) / half, half, base=theta)


@right("03.1", "NumPy, with float32")
def _(head_dim, theta):
    return torch.from_numpy((1 / theta ** (np.arange(0, head_dim, 2) / head_dim)).astype(np.float32))


@right("03.1", "linspace without its end")
def _(head_dim, theta):
    return 1 / theta ** torch.linspace(0, 1, head_dim // 2 + 1)[:-1]


@right("03.1", "filled in a loop")
def _(head_dim, theta):
    pace, now = torch.empty(head_dim // 2), 1.0
    for pair in range(len(pace)):
        pace[pair] = now
        now /= theta ** (2 / head_dim)
    return pace


# 03.5 reach -----------------------------------------------------------------------------------------------------------


def waves(head_dim, theta):
    return 2 * math.pi * theta ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)


def counted(head_dim, theta, context):
    return int((waves(head_dim, theta) <= context).sum())


def slowest(head_dim, theta):
    return 2 * math.pi * theta ** (1 - 2 / head_dim)


@wrong("03.5", "2 pi forgotten", "2 pi", "radian", "turn")
def _(head_dim, theta, context):
    periods = theta ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    return float(periods[-1]), int((periods <= context).sum())


@wrong("03.5", "2 pi forgotten in the count alone", "2 pi", "radian", "count", "second", "number")
def _(head_dim, theta, context):
    return slowest(head_dim, theta), int((waves(head_dim, theta) / (2 * math.pi) <= context).sum())


@wrong("03.5", "2 pi theta", "last", "exponent", "theta", "one pair", "head_dim - 2")
def _(head_dim, theta, context):
    return 2 * math.pi * theta, counted(head_dim, theta, context)


@wrong("03.5", "j / d", "2", "exponent")
def _(head_dim, theta, context):
    periods = 2 * math.pi * theta ** (torch.arange(head_dim // 2, dtype=torch.float64) / head_dim)
    return float(periods[-1]), int((periods <= context).sum())


@wrong("03.5", "pairs that do not complete one", "not", "never", "complete", "others", "opposite")
def _(head_dim, theta, context):
    return slowest(head_dim, theta), head_dim // 2 - counted(head_dim, theta, context)


@wrong("03.5", "channels for pairs", "channel", "pair", "twice")
def _(head_dim, theta, context):
    return slowest(head_dim, theta), 2 * counted(head_dim, theta, context)


@wrong("03.5", "the share of the pairs", "share", "number", "count", "whole", "fraction")
def _(head_dim, theta, context):
    return slowest(head_dim, theta), counted(head_dim, theta, context) / (head_dim // 2)


@wrong("03.5", "the fastest pair", "fastest", "slowest", "first")
def _(head_dim, theta, context):
    return 2 * math.pi, counted(head_dim, theta, context)


@wrong("03.5", "half a turn", "half", "2 pi", "pi")
def _(head_dim, theta, context):
    periods = waves(head_dim, theta) / 2
    return float(periods[-1]), int((periods <= context).sum())


@wrong("03.5", "360 degrees", "degree", "radian", "360")
def _(head_dim, theta, context):
    periods = waves(head_dim, theta) / (2 * math.pi) * 360
    return float(periods[-1]), int((periods <= context).sum())


@wrong("03.5", "radians per token of the slowest", "per token", "radian", "inverse", "frequency")
def _(head_dim, theta, context):
    return theta ** (2 / head_dim - 1), counted(head_dim, theta, context)


@wrong("03.5", "turns of the slowest in the context", "turns", "pairs", "slowest", "count")
def _(head_dim, theta, context):
    return slowest(head_dim, theta), context / slowest(head_dim, theta)


@wrong("03.5", "whole part of the logarithm, without pair 0", "one", "pair 0", "first", "off by one")
def _(head_dim, theta, context):
    pairs = math.floor(head_dim / 2 * math.log(context / (2 * math.pi)) / math.log(theta))
    return slowest(head_dim, theta), min(pairs, head_dim // 2)


@wrong("03.5", "logarithm without an upper limit", "head_dim", "all", "limit", "more pairs", "half", "than there are")
def _(head_dim, theta, context):
    pairs = math.floor(head_dim / 2 * math.log(context / (2 * math.pi)) / math.log(theta)) + 1
    return slowest(head_dim, theta), pairs


@wrong("03.5", "both exchanged", "order", "exchanged", "swapped", "first")
def _(head_dim, theta, context):
    return counted(head_dim, theta, context), slowest(head_dim, theta)


@wrong("03.5", "the first number alone", "tuple", "two", "type", "both")
def _(head_dim, theta, context):
    return slowest(head_dim, theta)


@wrong("03.5", "all periods", "slowest", "one number", "shape", "type", "all")
def _(head_dim, theta, context):
    return waves(head_dim, theta), counted(head_dim, theta, context)


@wrong("03.5", "theta of 10,000", "10,000", "10000", "theta")
def _(head_dim, theta, context):
    return slowest(head_dim, 10_000.0), counted(head_dim, 10_000.0, context)


@wrong("03.5", "turns within the context for the count", "turn", "sum", "count", "pairs")
def _(head_dim, theta, context):
    return slowest(head_dim, theta), int((context / waves(head_dim, theta)).sum())


@wrong("03.5", "the last pair is number d / 2", "last", "number", "from 0", "pair", "exponent", "one too", "theta")
def _(head_dim, theta, context):
    half = head_dim // 2
    periods = [2 * math.pi * theta ** (2 * j / head_dim) for j in range(half + 1)]
    return periods[-1], sum(period <= context for period in periods)


@wrong("03.5", "pairs counted from 1", "from 1", "from 0", "pair 0", "first", "theta", "exponent")
def _(head_dim, theta, context):
    periods = [2 * math.pi * theta ** (2 * j / head_dim) for j in range(1, head_dim // 2 + 1)]
    return periods[-1], sum(period <= context for period in periods)


@wrong("03.5", "two turns are asked of each", "two", "twice", "whole", "one turn")
def _(head_dim, theta, context):
    return slowest(head_dim, theta), int((2 * waves(head_dim, theta) <= context).sum())


@right("03.5", "as a loop")
def _(head_dim, theta, context):
    pairs = 0
    for j in range(head_dim // 2):
        period = 2 * math.pi * theta ** (2 * j / head_dim)
        if period <= context:
            pairs += 1
    return period, pairs


@right("03.5", "the logarithm, limited")
def _(head_dim, theta, context):
    half = head_dim // 2
    pairs = math.floor(half * math.log(context / math.tau) / math.log(theta)) + 1
    return math.tau * theta ** ((half - 1) / half), max(0, min(pairs, half))


@right("03.5", "scalars of torch")
def _(head_dim, theta, context):
    periods = waves(head_dim, theta)
    return periods.max(), (periods <= context).sum()


@right("03.5", "NumPy")
def _(head_dim, theta, context):
    periods = np.pi * 2 * np.power(theta, np.arange(0, head_dim, 2) / head_dim)
    return periods[-1], np.count_nonzero(periods <= context)


@right("03.5", "angles at the end of the context")
def _(head_dim, theta, context):
    pace = [theta ** (-2 * j / head_dim) for j in range(head_dim // 2)]
    return math.tau / min(pace), sum(each * context >= math.tau for each in pace)


@right("03.5", "a list, float32 inside")
def _(head_dim, theta, context):
    pace = 1 / theta ** (torch.arange(0, head_dim, 2) / head_dim)
    turns = context * pace / (2 * torch.pi)
    return [float(2 * torch.pi / pace[-1]), int((turns >= 1).sum())]
