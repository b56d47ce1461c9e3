#!/usr/bin/env python3
"""A step of training, ours (build/bench/training) beside PyTorch's, on the same cores, in turns.

    pip install torch; bench/pytorch.py [THREADS [BATCH [ROUNDS]]]

The same networks, batch and optimiser (AdamW), 224 x 224; "last stage" trains what works on the
smallest maps, and the heads, with frozen batch norm below. PyTorch runs eagerly in the layout that
suits it best (channels last), in fp32 and in bf16 by autocast. Figures are medians.
"""
import os
import re
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

THREADS, BATCH, ROUNDS = [int(given) for given in sys.argv[1:4]] + [2, 32, 3][len(sys.argv) - 1:]
PROGRAM = os.path.join(os.environ.get("BUILD", "build"), "bench", "training")
HEADS = (101, 2, 5, 2)


def convolution(inputs, outputs, kernel, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def mobilenet_v1():
    """Backbone and the number of its first module that is of the last stage."""
    layers = [convolution(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU6()]
    channels, last = 32, 0
    for outputs, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)):
        if (outputs, stride) == (1024, 2):
            last = len(layers)
        layers += [convolution(channels, channels, 3, stride, channels), nn.BatchNorm2d(channels), nn.ReLU6(),
                   convolution(channels, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU6()]
        channels = outputs
    return layers, last, channels


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.way = nn.Sequential(convolution(inputs, width, 1, stride), nn.BatchNorm2d(width), nn.ReLU(),
                                 convolution(width, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
                                 convolution(width, outputs, 1), nn.BatchNorm2d(outputs))
        self.short = (nn.Sequential(convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
                      if inputs != outputs else nn.Identity())

    def forward(self, x):
        return torch.relu(self.way(x) + self.short(x))


def resnet50():
    layers = [convolution(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2)]
    channels, last = 64, 0
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        last = len(layers)
        for block in range(blocks):
            layers.append(Bottleneck(channels, width, stride if block == 0 else 1))
            channels = 4 * width
    return layers, last, channels


class Network(nn.Module):
    def __init__(self, layers, last, channels, last_stage):
        super().__init__()
        self.frozen = nn.Sequential(*layers[:last]) if last_stage else nn.Sequential()
        self.trained = nn.Sequential(*(layers[last:] if last_stage else layers))
        self.hidden = nn.Sequential(nn.Dropout(0.2), nn.Linear(channels, 512), nn.ReLU(), nn.Dropout(0.2))
        self.heads = nn.ModuleList(nn.Linear(512, classes) for classes in HEADS)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        self.frozen.eval()
        with torch.no_grad():
            x = self.frozen(x)
        features = self.hidden(self.trained(x).mean((2, 3)))
        return [head(features) for head in self.heads]


def their_step(build, last_stage, bf16):
    """Milliseconds of a step, the median of five after a warm-up."""
    network = Network(*build(), last_stage).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.05)
    pixels = torch.randint(0, 256, (BATCH, 3, 224, 224), dtype=torch.uint8).to(memory_format=torch.channels_last)
    times = []
    for step in range(6):
        start = time.monotonic()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            outputs = network(pixels.float() - 100)
        loss = sum(output.float().mean() for output in outputs)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5)
        optimizer.step()
        if step > 0:
            times.append(1e3 * (time.monotonic() - start))
    return statistics.median(times)


def our_steps(name):
    """Milliseconds by (last stage, bf16)."""
    text = subprocess.run([PROGRAM, str(THREADS), str(BATCH), name], check=True, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": str(THREADS)}).stdout
    return {(stage == "last stage", precision == "bf16"): float(step)
            for stage, precision, step in re.findall(r", (all layers|last stage), (fp32|bf16), batch \d+: (\d+) ms", text)}


def main():
    torch.set_num_threads(THREADS)
    print(f"PyTorch {torch.__version__}, {THREADS} threads, batch {BATCH}, medians of {ROUNDS} rounds in turns")
    print("| network | trains | precision | ours, ms | PyTorch, ms | times as fast |\n|---|---|---|---|---|---|")
    for build in (mobilenet_v1, resnet50):
        ours, theirs = {}, {}
        for _ in range(ROUNDS):
            for key, step in our_steps(build.__name__).items():
                ours.setdefault(key, []).append(step)
                theirs.setdefault(key, []).append(their_step(build, *key))
        for last_stage, bf16 in sorted(ours):
            mine, other = (statistics.median(of[last_stage, bf16]) for of in (ours, theirs))
            print(f"| `{build.__name__}` | {'last stage' if last_stage else 'all layers'} | {'bf16' if bf16 else 'fp32'} "
                  f"| {mine:.0f} | {other:.0f} | {other / mine:.2f} |", flush=True)


if __name__ == "__main__":
    main()
