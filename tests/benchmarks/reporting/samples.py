"""Small hand-made results of every suite."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from diffcore_gpu.benchmarks.harness.result_file import new_result, write_result
from diffcore_gpu.benchmarks.reporting.collection import Loaded

ENVIRONMENT = {
    "command": "diffcore bench something --json something.json",
    "device": "cpu",
    "cpu": "Some CPU",
    "cpus": 8,
    "gpu": None,
    "gpu_memory_bytes": None,
    "cuda": None,
    "clocks_at_start": {"cpu_mhz": [2400.2, 2500.0]},
    "threads": 2,
    "load_at_start": 0.5,
    "python": "3.12",
    "versions": {"torch": "2.11", "triton": None},
}


def timing(median: float) -> dict[str, Any]:
    """A summary of three samples, 10 % around the median."""
    samples = [median * 0.9, median, median * 1.1]
    return {"median_ms": median, "p10_ms": samples[0], "p90_ms": samples[2], "samples_ms": samples}


OVERHEADS = {
    "vanilla again": {"percent": 0.5, "low": -1.0, "high": 2.0},
    "diffcore-mix": {"percent": 3.0, "low": -0.5, "high": 4.0},
    "mixup": {"percent": 1.0, "low": 0.5, "high": 2.0},
    "saliencymix": {"percent": 350.0, "low": 340.0, "high": 361.0},
}


def steps(batch: int, *methods: str, **more: Any) -> dict[str, Any]:
    """Three turns of steps of 100 ms, and of methods that add what `OVERHEADS` says; puzzlemix failed."""
    times = {"vanilla": timing(100)}
    for name in methods or ("diffcore-mix", "mixup", "saliencymix"):
        added = (OVERHEADS[name][key] for key in ("low", "percent", "high"))
        samples = [ms * (1 + percent / 100) for ms, percent in zip((90, 100, 110), added, strict=True)]
        times[name] = dict(zip(("p10_ms", "median_ms", "p90_ms"), samples, strict=True), samples_ms=samples)
    stages = {
        name: {"load_ms": 0.5, "mix_ms": time["median_ms"] - 90, "train_ms": 89.5} for name, time in times.items()
    }
    return {"batch": batch, "times": times, "stages": stages, "failed": {"puzzlemix": "there is no gco"}, **more}


_RATE = {"gb_per_s": 2000.0, "of_copy": 0.93, "of_large_copy": 0.81, "of_peak": 0.6}
_KINDS = ("copy", "large copy", "pixel", "patch", "default")
_ACCURACY = {
    "vanilla": (0.85, 0.86),
    "diffcore-mix-100": (0.92, 0.93),
    "diffcore-mix-50": (0.855, 0.863),
    "mixup": (0.88,),
}
_STAGES = {"denoiser": 4.0, "vae": 0.5, "other": 0.1, "filter": 0.2, "write": 0.1, "wait": 0.3}

PARTS: dict[str, list[dict[str, Any]]] = {
    "overhead": [
        steps(
            16, "vanilla again", "diffcore-mix", "mixup", block="peers", failed={}, loader_share={"diffcore-mix": 0.2}
        ),
        steps(16, "vanilla again", "saliencymix", block="others", loader_share={"saliencymix": 0.1}),
        steps(24, "mixup", unfinished=True),  # as a run without blocks wrote it
    ],
    "batch-time": [steps(16), steps(64)],
    "overhead-accuracy": [
        {
            "arm": arm,
            "method": method,
            "overhead": OVERHEADS[method],
            "accuracy": {"mean": mean, "deviation": deviation, "seeds": 2},
            "source": "measured",
            "pareto_optimal": optimal,
        }
        for arm, method, mean, deviation, optimal in (
            ("diffcore-mix-100", "diffcore-mix", 92.5, 0.5, True),
            ("mixup", "mixup", 88.0, None, True),
            ("saliencymix", "saliencymix", 90.0, 0.1, False),
        )
    ],
    "batch-gallery": [
        {"method": "mixup", "targets": [{"Auklet": 0.38, "Albatross": 0.62}], "sums": [1.0] * 6},
        {"method": "diffcore-mix", "targets": [{"Albatross": 1.0}]},
        {"method": "snapmix", "failed": "no such model"},
    ],
    "loader": [
        {
            "workers": workers,
            "images": 32,
            "bytes": {"png": 12_000_000, "store": 3_000_000},
            "arms": {
                name: {"images_per_second": [speed, 2 * speed], "cpu_seconds_per_image": [1 / speed, 2 / speed]}
                for name, speed in (("real images alone", 200.0), ("folder of PNG files", 50.0), ("store", 180.0))
            },
        }
        for workers in (0, 2)
    ],
    "train": [
        {
            "variant": "cars",
            "arm": arm,
            "seed": seed,
            "epochs": 3,
            "seconds": 1.5,
            "splits": {split: {"top1": top1, "top5": 0.97} for split in ("val", "test")},
        }
        for arm, accuracies in _ACCURACY.items()
        for seed, top1 in enumerate(accuracies)
    ]
    + [{"variant": "cars", "arm": "comixup", "seed": 0, "failed": "diverged at epoch 2"}],
    "peers": [
        {
            "dtype": "float32",
            "memory_format": memory_format,
            "batch": 16,
            "size": 224,
            "times": {
                "diffcore default": timing(4),
                "diffcore default (in place)": timing(2.1),
                "torchvision cutmix": timing(8),
                "timm cutmix batch (in place)": timing(2),
            },
            "comparisons": [
                {
                    "ours": "diffcore default",
                    "against": "all peers",
                    "fastest": "timm cutmix batch (in place)",
                    "ratio": 2.0,
                    "within_noise": False,
                }
            ],
        }
        for memory_format in ("contiguous", "channels_last")
    ],
    "bandwidth": [
        {
            "size": 224,
            "dtype": "bfloat16",
            "memory_format": "channels_last",
            "batch": 64,
            "sets": 11,
            "peak_gb_per_s": 3350.0,
            "peak_from": "data sheet",
            "bytes_of_calls": {name: [1000, 1000] for name in _KINDS},
            "cold_rates": dict.fromkeys(_KINDS, _RATE),
            "times": dict.fromkeys(_KINDS, timing(0.0213)),
        }
    ],
    "smoke": [
        {
            "dtype": "uint8",
            "memory_format": "contiguous",
            "plan": True,
            "strides": True,
            "mix_last_places": 0.0,
            "in_place_last_places": 0.0,
            "crop_error": 0.5,
            "right": True,
        }
    ],
    "host-overhead": [
        {
            "batch": batch,
            "driver": "stand-in",
            "times": {"call": timing(0.006), "bare launch": timing(0.005)},
            "call_over_bare_launch": {"median": 1.25, "quartiles": [1.2, 1.3]},
        }
        for batch in (16, 64)
    ],
    "geometry": [
        {
            "batch": 8,
            "dtype": "uint8",
            "times": {"alone": {"torchvision": timing(2), "diffcore, crop and mix": timing(1)}},
        },
        {
            "batch": 8,
            "dtype": "bfloat16",
            "times": {
                "alone": {"torchvision": timing(2), "diffcore, crop and mix": timing(1)},
                "in a training step": {"torchvision": timing(10), "diffcore, crop and mix": timing(8)},
            },
        },
    ],
    "residency": [{"batch": 8, "times": {"none": timing(10), "device": timing(10.1), "disk": timing(15)}}],
    "generation": [
        {
            "percent": percent,
            "wanted": percent,
            "generated": 2 * percent,
            "discarded": percent // 2,
            "never_passed": 0,
            "wall_seconds": 5.0,
            "seconds": _STAGES,
        }
        for percent in (50, 100)
    ],
    "codecs": [
        {
            "what": "size",
            "codec": "jpeg",
            "bytes": 1000,
            "share": 0.177,
            "encoded_per_second": 2000.0,
            "decoded_per_second": 2500.0,
            "mean_error": 1.5,
            "largest_error": 40,
        },
        *(
            {
                "what": "store",
                "mb_per_s": limit,
                "batch": 64,
                "arms": {
                    name: {
                        "per_second": [1000.0, 1200.0],
                        "cpu_us": [9.0],
                        "ratio": {"median": 3.1, "low": 2.9, "high": 3.3},
                    }
                    for name in ("raw", "jpeg")
                },
            }
            for limit in (None, 250)
        ),
        {
            "what": "loader",
            "workers": 2,
            "images": 64,
            "arms": {
                "raw": {"per_second": [90.0], "cpu_us": [8000.0], "ratio": {"median": 1.0, "low": 1.0, "high": 1.0}}
            },
        },
    ],
    "store-access": [
        {
            "what": "opening",
            "rows": 1_000_000,
            "write_seconds": 17.2,
            "verify_seconds": 2.0,
            "open": timing(3),
            "extra_resident_mb": 3.6,
        },
        {
            "what": "reading",
            "batch": 64,
            "shards": 2,
            "times": {"images": {**timing(0.6), "gb_per_s": 20.0}, "clone": {**timing(0.5), "gb_per_s": 25.0}},
            "speed": {"images / clone": 0.83},
        },
    ],
}
"""The `results` of each suite."""

SETTINGS: dict[str, dict[str, Any]] = {
    "batch-gallery": {"batch": 1, "labels": ["Albatross"]},
    "generation": {"model": "digits", "weights": "trained"},
    "overhead-accuracy": {"batch": 16, "accuracies": "measured", "variant": None, "split": "val"},
}
_MORE: dict[str, dict[str, Any]] = {
    "train": {"paper": {"vanilla": {"val": {"top1": 85.86, "top5": 91.19}}, "comixup": {"val": {"top1": 90.0}}}},
    "overhead-accuracy": {"left_out": {"snapmix": "no accuracy", "genaug": "no overhead"}},
}


def sample(suite: str, **environment: Any) -> dict[str, Any]:
    """A result of a suite; what is given differs in its environment."""
    result = new_result(suite, {**deepcopy(ENVIRONMENT), **environment}, SETTINGS.get(suite, {"repeats": 3}))
    result["results"] = [{**part, "clocks_at_end": {"cpu_mhz": [2300.0]}} for part in deepcopy(PARTS[suite])]
    return {**result, **deepcopy(_MORE.get(suite, {}))}


def loaded(suite: str, **environment: Any) -> Loaded:
    """The same, as if read from a file."""
    return Loaded(Path(f"device/{suite}.json"), f"device/{suite}.json", sample(suite, **environment))


def write_samples(folder: Path) -> Path:
    """A folder with a result of every suite."""
    for suite in PARTS:
        write_result(folder / "device" / f"{suite.replace('-', '_')}.json", sample(suite))
    return folder
