"""Load the model that `ModelOptions` names, with the means of diffusers: from safetensors alone, no code of its own."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from diffcore_gpu.documents import MAX_SETTINGS, read_json, why
from diffcore_gpu.errors import GenerationError, clause
from diffcore_gpu.generation.settings import ModelOptions
from diffcore_gpu.generation.text_to_image import DiffusersTextToImage, denoiser_of

PICKLE_SUFFIXES = (".ckpt", ".bin", ".pt", ".pth", ".pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILE = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)/(.+\.safetensors)")
_INDEX = "model_index.json"
_HASHED_BYTES = 64 << 20  # larger files count by name and size: reading gigabytes would delay every start
_LIBRARIES = ("diffusers", "transformers", "accelerate", "huggingface_hub", "open_clip", "timm", "torch")
_UNREACHABLE = "the hub cannot be reached, and it was not downloaded before; give a local folder or file"
_INSTALL = 'pip install "diffcore-gpu[generate]"'


def check_model(options: ModelOptions) -> None:
    """Refuse what can be told to be no model, or not safe to load, before anything is loaded or downloaded.

    Raises:
        GenerationError: says what is wrong with which path.
    """
    for what, source in (("model", options.model), ("VAE", options.vae)):
        if source is not None:
            _check_source(what, source)
    if Path(options.model).is_dir():
        _check_folder(Path(options.model))
    if options.device != "auto":
        resolve_device(options.device)
    if options.cpu_offload and resolve_device(options.device).type == "cpu":
        raise GenerationError(
            "--cpu-offload moves parts of the model between a GPU and the CPU; there is no GPU in use."
        )


def load_text_to_image(
    options: ModelOptions, say: Callable[[str], None] = lambda message: None
) -> DiffusersTextToImage:
    """Load a model and make it ready.

    Args:
        options: which, and how it is run.
        say: gets a remark for a person.

    Raises:
        GenerationError: the model is none, cannot be had or read, or does not do what the options ask of it.
    """
    check_model(options)
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise GenerationError(f"Generating needs the package {error.name}: {_INSTALL}.") from error
    device = resolve_device(options.device)
    with quiet_libraries():
        pipeline = _load(options, _dtype(options.dtype, device))
        with _named_failures(options.model):
            _configure(pipeline, options, device)
    return DiffusersTextToImage(
        pipeline,
        gamma=options.gamma,
        steps=options.steps,
        negative=options.negative,
        height=options.height,
        width=options.width,
        identity=_identity(options),
        say=say,
    )


def _check_source(what: str, source: str) -> None:
    path = Path(source)
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise GenerationError(
            f"{source}: {what} weights in pickle format can run code when they are loaded; give a .safetensors file, "
            "or a folder that diffusers saved with safe_serialization=True."
        )
    if path.is_file() and path.suffix.lower() != ".safetensors":
        raise GenerationError(f"{source} is no {what}: give a .safetensors file, a folder of diffusers or a hub id.")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise GenerationError(f"{source} is no {what}: it is neither a file nor a folder.")
    if not path.exists() and not _HUB_ID.fullmatch(source) and not _HUB_FILE.fullmatch(source):
        raise GenerationError(
            f"{source} is no {what}: there is no such file or folder, and it is no hub id such as owner/name."
        )


def _check_folder(folder: Path) -> None:
    try:
        index = read_json(folder / _INDEX, MAX_SETTINGS)
    except FileNotFoundError:
        raise GenerationError(
            f"{folder} is no model: it has no {_INDEX}, which every pipeline that diffusers saved has."
        ) from None
    except (OSError, ValueError) as error:
        raise GenerationError(f"{folder / _INDEX} cannot be read: {why(error)}.") from error
    name = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(name, str):
        raise GenerationError(f"{folder} brings a pipeline in code of its own, which is never run; give another model.")
    for part in sorted(folder.iterdir()):
        files = sorted(part.iterdir()) if part.is_dir() else []
        for file in (part, *files):
            if file.exists() and not file.is_file() and not file.is_dir():  # a pipe would be waited for
                raise GenerationError(f"{file} is no file; take it out of the model's folder.")
        if any(file.suffix == ".safetensors" for file in files):
            continue
        for file in files:
            if file.suffix in PICKLE_SUFFIXES:
                raise GenerationError(
                    f"{file}: weights in pickle format can run code when they are loaded; where you trust them, save "
                    "the pipeline again with safe_serialization=True."
                )


def resolve_device(name: str) -> torch.device:
    """The device of that name; auto: a GPU if there is one.

    Raises:
        GenerationError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise GenerationError(f"{name!r} is no device; cpu, cuda and cuda:1 are.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise GenerationError(
            f"There is no device {name}; this machine has {torch.cuda.device_count()} GPUs for torch."
        )
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _load(options: ModelOptions, dtype: torch.dtype) -> Any:
    parts: dict[str, Any] = {}
    if options.vae is not None:
        with _named_failures(options.vae, "VAE"):
            parts["vae"] = _load_vae(options.vae, dtype)
    with _named_failures(options.model):
        if options.model.endswith(".safetensors"):
            pipeline = _load_single_file(options, dtype, parts)
        else:
            from diffusers import AutoPipelineForText2Image

            pipeline = AutoPipelineForText2Image.from_pretrained(
                options.model,
                revision=options.revision,
                variant=options.variant,
                torch_dtype=dtype,
                use_safetensors=True,
                **parts,
            )
    if options.scheduler is not None:
        import diffusers

        pipeline.scheduler = getattr(diffusers, options.scheduler.name)(**options.scheduler.arguments)
    return pipeline


def _load_vae(source: str, dtype: torch.dtype) -> Any:
    from diffusers import AutoencoderKL

    if source.endswith(".safetensors"):
        return AutoencoderKL.from_single_file(_local_file(source, None), torch_dtype=dtype)
    subfolder = "vae" if (Path(source) / "vae").is_dir() else None  # of a whole pipeline
    return AutoencoderKL.from_pretrained(source, subfolder=subfolder, torch_dtype=dtype, use_safetensors=True)


def _load_single_file(options: ModelOptions, dtype: torch.dtype, parts: dict[str, Any]) -> Any:
    """The pipeline class is the text-to-image one of the model family that diffusers recognizes in the file."""
    from diffusers import DiffusionPipeline
    from diffusers.loaders.single_file_utils import fetch_diffusers_config
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING, _get_task_class
    from safetensors import safe_open

    file = _local_file(options.model, options.revision)
    config = options.config
    if config is None:
        with safe_open(file, "pt") as opened:  # names and shapes are enough to recognize it
            shapes = {
                name: torch.empty(opened.get_slice(name).get_shape(), device="meta")
                for name in opened.keys()  # noqa: SIM118  it is no dict
            }
        config = fetch_diffusers_config(shapes)["pretrained_model_name_or_path"]
    class_name = DiffusionPipeline.load_config(config)["_class_name"]
    pipeline_class = _get_task_class(AUTO_TEXT2IMAGE_PIPELINES_MAPPING, class_name)
    return pipeline_class.from_single_file(file, config=config, torch_dtype=dtype, **parts)


def _local_file(source: str, revision: str | None) -> str:
    if Path(source).exists():
        return source
    from huggingface_hub import hf_hub_download

    match = _HUB_FILE.fullmatch(source)
    assert match is not None  # `check_model` saw to it
    return str(hf_hub_download(match[1], match[2], revision=revision))


@contextmanager
def _named_failures(source: str, what: str = "text-to-image model") -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise GenerationError(f"{source} does not fit into memory; give --cpu-offload or --dtype float16.") from error
    except Exception as error:
        # Loading raises whatever its many parts raise for a wrong model: OSError, ValueError, KeyError, the hub's and
        # safetensors' own errors. The cause stays attached.
        raise GenerationError(
            f"{source} cannot be loaded as a {what}: {_hub_reason(error) or clause(error)}."
        ) from error


def _hub_reason(error: BaseException) -> str | None:
    """What the hub said, where it is behind the error: diffusers would call the file missing."""
    from huggingface_hub import errors

    reasons = (
        (errors.GatedRepoError, "accept its licence on its page on the hub, and log in with `hf auth login`"),
        (errors.RevisionNotFoundError, "the hub has no such revision of it"),
        (errors.RepositoryNotFoundError, "the hub has no such model, or it is private"),
        (errors.OfflineModeIsEnabled, _UNREACHABLE),
        (errors.LocalEntryNotFoundError, _UNREACHABLE),
    )
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    for kind, reason in reasons:
        if any(isinstance(one, kind) for one in chain):
            return reason
    return None


def _configure(pipeline: Any, options: ModelOptions, device: torch.device) -> None:
    if options.vae_slicing:
        pipeline.vae.enable_slicing()
    if options.vae_tiling:
        pipeline.vae.enable_tiling()
    if options.attention_slicing:
        pipeline.enable_attention_slicing()
    if options.cpu_offload:
        pipeline.enable_model_cpu_offload(device=device)
    else:
        pipeline.to(device)
    if options.compile:
        # `forward` and not the module: the hooks that take the time stay outside of what is compiled.
        denoiser = denoiser_of(pipeline)
        denoiser.forward = torch.compile(denoiser.forward)


def _identity(options: ModelOptions) -> dict[str, Any]:
    """By what a resumed run knows the model again: on the hub its commit, here its files."""
    identity: dict[str, Any] = {"model": options.model, "revision": options.revision}
    if Path(options.model).exists():
        path = Path(options.model).resolve()
        identity = {"model": path.name, "revision": None, "files_sha256": _files_digest(path)}
    else:
        identity["commit"] = _hub_commit(options)
    if options.vae is not None:
        path = Path(options.vae)
        identity["vae"] = path.resolve().name if path.exists() else options.vae
        if path.exists():
            identity["vae_files_sha256"] = _files_digest(path.resolve())
    return identity


def _files_digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(path)}\0{size}\n".encode(errors="surrogateescape"))
        if size <= _HASHED_BYTES:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _hub_commit(options: ModelOptions) -> str | None:
    """The commit that was loaded, from the name of its folder in the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    match = _HUB_FILE.fullmatch(options.model)
    repository, name = (match[1], match[2]) if match else (options.model, _INDEX)
    file = try_to_load_from_cache(repository, name, revision=options.revision)
    found = re.search(r"/snapshots/([0-9a-f]{40})/", file) if isinstance(file, str) else None
    return found[1] if found else None


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No warnings, no bars, and no remarks short of errors from the libraries that are imported by then.

    All of that belongs to the process, not to a thread: enter this once, around the threads.
    """
    hub = logging.getLogger("huggingface_hub")  # it warns of each of its retries; what failed in the end is raised
    hub_level = hub.level
    logs = [sys.modules.get(f"{library}.utils.logging") for library in ("diffusers", "transformers")]
    before = [(log, log.is_progress_bar_enabled(), log.get_verbosity()) for log in logs if log is not None]
    with warnings.catch_warnings():
        for library in _LIBRARIES:
            warnings.filterwarnings("ignore", module=rf"{library}(\.|$)")
        hub.setLevel(logging.ERROR)
        for log, _, _ in before:
            log.disable_progress_bar()
            log.set_verbosity_error()
        try:
            yield
        finally:
            hub.setLevel(hub_level)
            for log, bars, verbosity in before:
                log.set_verbosity(verbosity)
                if bars:
                    log.enable_progress_bar()
