"""Train a torchvision model on an ImageFolder, with generated counterparts mixed into every batch.

The plain PyTorch loop, to be copied and changed. The three lines that diffcore-gpu adds are marked; everything else is
what such a loop has anyway: mixed precision, a seed, progress, a checkpoint after each epoch and an exact resume.

    diffcore pack --real birds --generated birds-generated --out stores/birds --size 224
    python examples/train_imagefolder.py --real birds --store stores/birds --model resnet50 --epochs 30

Run it again with the same arguments and it goes on after the last finished epoch, with the same result as a run that
was never interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import time
from pathlib import Path
from typing import Any

import torch
import torchvision
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

import diffcore_gpu as dc

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--real", type=Path, required=True, help="ImageFolder of the real images")
    parser.add_argument("--store", type=Path, help="counterpart store made for --real; without it nothing is mixed")
    parser.add_argument("--out", type=Path, default=Path("run"), help="folder for the checkpoint (default: run)")
    parser.add_argument("--model", default="resnet18", help="name of a torchvision classifier (default: resnet18)")
    parser.add_argument("--size", type=int, default=224, help="image size; that of the store if there is one")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--held-out", type=float, default=0.2, help="share of each class to evaluate on (default: 0.2)")
    parser.add_argument("--amp", choices=["off", "bf16", "fp16"], default="off", help="mixed precision")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--stop-after", type=int, help="stop after this many epochs of this run, to go on later")
    return parser.parse_args()


def split_by_class(labels: list[int], held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on and to evaluate on; each class gives the same share."""
    generator = random.Random(seed)
    training, evaluation = [], []
    for label in sorted(set(labels)):
        members = [index for index, other in enumerate(labels) if other == label]
        generator.shuffle(members)
        count = round(held_out * len(members))
        evaluation += members[:count]
        training += members[count:]
    return sorted(training), sorted(evaluation)


def loader_of(dataset: Dataset[Any], arguments: argparse.Namespace, epoch: int, shuffle: bool) -> DataLoader[Any]:
    """A loader whose order and whose workers' random numbers depend on seed and epoch alone: a resume is exact."""
    return DataLoader(
        dataset,
        batch_size=arguments.batch_size,
        shuffle=shuffle,
        num_workers=arguments.workers,
        pin_memory=arguments.device.startswith("cuda"),
        generator=torch.Generator().manual_seed(1_000_003 * arguments.seed + epoch),
    )


def save(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write beside the name, then rename: a crash leaves the old checkpoint or the new one, never half of one."""
    temporary = path.with_suffix(".partial")
    torch.save(checkpoint, temporary)
    temporary.replace(path)


@torch.inference_mode()
def evaluate(model: nn.Module, loader: DataLoader[Any], device: torch.device) -> float:
    """Top-1 accuracy."""
    model.eval()
    correct = total = 0
    for images, labels, _ in loader:
        predicted = model(images.to(device)).argmax(1)
        correct += int((predicted == labels.to(device)).sum())
        total += len(labels)
    return correct / max(total, 1)


def main() -> None:
    """Train."""
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    device = torch.device(arguments.device)

    store = dc.CounterpartStore.open(arguments.store) if arguments.store else None
    size = store.image_shape[1:] if store else (arguments.size, arguments.size)
    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    augment = v2.Compose([v2.RandomResizedCrop(size, scale=(0.5, 1.0)), v2.RandomHorizontalFlip(), *to_tensor])
    plain = v2.Compose([v2.Resize(min(size)), v2.CenterCrop(size), *to_tensor])

    folder = torchvision.datasets.ImageFolder(arguments.real)
    training, evaluation = split_by_class(folder.targets, arguments.held_out, arguments.seed)
    real = dc.IndexedDataset(torchvision.datasets.ImageFolder(arguments.real, augment))  # diffcore-gpu 1 of 3
    held_out = dc.IndexedDataset(torchvision.datasets.ImageFolder(arguments.real, plain))

    mix: nn.Module | None = None
    if store:
        mix = dc.DiffCoreMix(store.bind(real), mean=MEAN, std=STD, seed=arguments.seed).to(
            device
        )  # diffcore-gpu 2 of 3

    memory_format = torch.channels_last if arguments.channels_last else torch.contiguous_format
    model = torchvision.models.get_model(arguments.model, num_classes=len(folder.classes))
    model = model.to(device, memory_format=memory_format)
    optimizer = torch.optim.SGD(
        model.parameters(), arguments.lr, momentum=0.9, weight_decay=arguments.weight_decay, nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, arguments.epochs)
    scaler = torch.amp.GradScaler(device.type, enabled=arguments.amp == "fp16")
    amp_dtype = torch.float16 if arguments.amp == "fp16" else torch.bfloat16
    autocast = torch.autocast(device.type, amp_dtype) if arguments.amp != "off" else contextlib.nullcontext()

    stateful = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    if mix is not None:
        stateful["mix"] = mix  # its round and its seed, so that a resumed run draws what an undisturbed one draws
    first_epoch = 0
    checkpoint_path = arguments.out / "checkpoint.pt"
    if checkpoint_path.exists():
        checkpoint = torch.load(checkpoint_path, map_location=device, weights_only=True)
        for name, part in stateful.items():
            part.load_state_dict(checkpoint[name])
        first_epoch = checkpoint["epoch"]
        torch.set_rng_state(checkpoint["rng"].cpu())
        print(f"resumed after epoch {first_epoch}")
    arguments.out.mkdir(parents=True, exist_ok=True)

    last_epoch = min(arguments.epochs, first_epoch + (arguments.stop_after or arguments.epochs))
    for epoch in range(first_epoch, last_epoch):
        model.train()
        start = time.perf_counter()
        total = torch.zeros((), device=device)
        loader = loader_of(Subset(real, training), arguments, epoch, shuffle=True)
        columns = TextColumn("epoch {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, transient=True) as progress:
            for images, labels, index in progress.track(loader, description=str(epoch + 1)):
                loss = train_step(images, labels, index, model, mix, optimizer, scaler, autocast, device, memory_format)
                total += loss
        scheduler.step()
        seconds = time.perf_counter() - start
        accuracy = evaluate(model, loader_of(Subset(held_out, evaluation), arguments, 0, shuffle=False), device)
        print(
            f"epoch {epoch + 1}/{arguments.epochs}: loss {total.item() / len(loader):.4f}, held-out accuracy "
            f"{100 * accuracy:.2f} %, {len(training) / seconds:.1f} images/s"
        )
        states = {name: part.state_dict() for name, part in stateful.items()}
        save(checkpoint_path, {**states, "epoch": epoch + 1, "rng": torch.get_rng_state()})


def train_step(
    images: Tensor,
    labels: Tensor,
    index: Tensor,
    model: nn.Module,
    mix: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    autocast: contextlib.AbstractContextManager[Any],
    device: torch.device,
    memory_format: torch.memory_format,
) -> Tensor:
    """One step of the optimizer; returns the loss, on the device."""
    images = images.to(device, memory_format=memory_format, non_blocking=True)
    labels, index = labels.to(device, non_blocking=True), index.to(device, non_blocking=True)
    if mix is not None:
        images = mix(images, index)  # diffcore-gpu 3 of 3
    with autocast:
        loss = nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss.detach()


if __name__ == "__main__":
    main()
