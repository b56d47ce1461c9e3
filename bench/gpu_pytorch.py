#!/usr/bin/env python3
"""ResNet-50 by PyTorch on the same GPU as bench/gpu.c: fp16, channels last, compiled. Run by bench/gpu-run where
torch and torchvision are installed; prints rows of its table."""
import statistics
import time

import torch
import torchvision

if not torch.cuda.is_available():
    raise SystemExit(1)


def median_ms(run, repeat):
    for _ in range(5):
        run()
    times = []
    for _ in range(7):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(repeat):
            run()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3 / repeat)
    return statistics.median(times)


def inference(model, batch, side, repeat):
    # pixels come from the host, as they do there
    pixels = torch.randint(0, 255, (batch, 3, side, side), dtype=torch.uint8).pin_memory()

    def run():
        with torch.inference_mode():
            x = pixels.cuda(non_blocking=True).half().contiguous(memory_format=torch.channels_last)
            return model(x).cpu()

    return median_ms(run, repeat)


model = torchvision.models.resnet50(num_classes=110).cuda().eval().half().to(memory_format=torch.channels_last)
compiled = torch.compile(model)
print(f"| PyTorch {torch.__version__}: resnet50 200 x 200 fp16 compiled, batch 256 |"
      f" {256e3 / inference(compiled, 256, 200, 20):.0f} /s | | |")
print(f"| PyTorch: the same, batch 1 | {inference(compiled, 1, 200, 200):.2f} ms | | |")

model = torchvision.models.resnet50(num_classes=110).cuda().train().to(memory_format=torch.channels_last)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
scaler = torch.amp.GradScaler("cuda")
compiled = torch.compile(model)
pixels = torch.randint(0, 255, (64, 3, 200, 200), dtype=torch.uint8).pin_memory()
labels = torch.randint(0, 109, (64,)).cuda()


def step():
    optimizer.zero_grad(set_to_none=True)
    x = pixels.cuda(non_blocking=True).float().contiguous(memory_format=torch.channels_last)
    with torch.autocast("cuda", torch.float16):
        loss = torch.nn.functional.cross_entropy(compiled(x), labels)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


print(f"| PyTorch: training resnet50 200 x 200, all layers, autocast fp16 compiled, batch 64 |"
      f" {64e3 / median_ms(step, 10):.0f} /s | | |")
