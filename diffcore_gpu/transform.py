"""`DiffCoreMix`: the batch transform that puts plan, ops and store together."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, overload

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from diffcore_gpu.errors import StoreError
from diffcore_gpu.fetch import Fetcher
from diffcore_gpu.geometry import CounterpartCrop, CropMixOp, GeometryStage
from diffcore_gpu.handover import Draw, Handover, Prefetched
from diffcore_gpu.identity import key_of, notice_unbound, other_store
from diffcore_gpu.kernels.spec import STREAM_VERSION
from diffcore_gpu.ops.mix.op import MixOp, as_dense, check_images
from diffcore_gpu.ops.runtime.arguments import Source
from diffcore_gpu.ops.runtime.eager import EagerCall, is_profiled, may_bypass
from diffcore_gpu.ops.runtime.normalization import affine_of
from diffcore_gpu.ops.runtime.watch import watch
from diffcore_gpu.plan import BoxPlacement, LamSpec, MixPlan, PlanConfig, RowChoice, check_labels
from diffcore_gpu.plan.crops import RandomResizedCropMirror
from diffcore_gpu.plan.fields import neutral_plan
from diffcore_gpu.store.nvjpeg import Decoder, check_decoder
from diffcore_gpu.store.residency import Residency, ResidentStore

if TYPE_CHECKING:
    from diffcore_gpu.store import CounterpartStore

_INPLACE_WITH_GEOMETRY = "inplace=True cannot go with geometry, which writes images of another size."
_NOT_IN_A_GRAPH = 'The counterparts come anew with every batch; in one graph use residency="device".'
_OR_ANEW = ", or take its `_extra_state` out of the checkpoint to begin a stream of its own"


class DiffCoreMix(nn.Module):
    """Mix every image of a batch with a generated counterpart of its class (DiffCoRe-Mix, eqs. 6–8).

    The label of a sample does not change, since its counterpart is of the same class. On a GPU the whole transform is
    one kernel launch, which also advances the round and does not wait for the device. Images of other strides than
    contiguous and channels_last are copied before. It works under ``torch.compile(fullgraph=True)``, inside a CUDA
    graph and under autocast. In ``eval()`` it returns its input. With `geometry` it takes the loader's raw bytes, and
    the same launch also crops, resizes, mirrors and normalizes; in ``eval()`` it then takes the central crop. What
    happens to a sample depends on `seed`, the round and the sample's dataset index alone (see `diffcore_gpu.plan`), so
    not on batch size, workers, ranks or device.

    The round is a buffer on the device. Unless told otherwise, every forward pass in training mode advances it by one,
    also when it is replayed in a CUDA graph. After `set_epoch(epoch)` the round is the epoch and stays until the next
    call: then a run on 4 ranks sees exactly the images that a run on 1 rank sees. A sample that is drawn twice in such
    an epoch, as by a sampler that draws with replacement, is mixed alike both times, unless an `OccurrenceSampler` says
    which time it is.

    Call it in the process that trains, not in a `DataLoader`'s workers: each of them advances a round of its own, which
    is lost with it, so that every epoch would mix as the first; and workers that persist do not hear of `set_epoch`.

    Args:
        store: an open counterpart store.
        p: probability that a sample with a counterpart is mixed at all.
        pixel_prob: π of eq. 8: pixel-wise mixing with this probability, patch-wise otherwise.
        lam: λ of eq. 6, the share of the real image: a number, an interval (low, high) for the uniform distribution, or
            `Beta(alpha)`.
        box_area: area of the box over that of the image: an interval for the uniform distribution, or a number.
        box_placement: "clipped" (centre anywhere, cut off at the border) or "inside".
        real_patch_prob: probability that the box shows the real image; otherwise it shows the counterpart.
        row_choice: "random" among a sample's rows, or "best": the row of highest similarity.
        mean: C numbers that were subtracted from float images, in units of [0, 1]; None: 0. Counterparts are normalized
            alike. Not used for uint8 images.
        std: C numbers that float images were divided by; None: 1. Not used for uint8 images.
        seed: 64-bit key of the random numbers.
        residency: where the counterparts live: "device" (its memory holds the whole store), "disk" (read out of the
            files), "host" (likewise, read into host memory ahead) or "auto"; see `ResidentStore`. On a GPU "disk" and
            "host" need a `PrefetchLoader`, and so does "auto" where the store does not fit. On the CPU a store that
            cannot be mapped, such as an encoded one, is then read and decoded batch by batch: ahead by a
            `PrefetchLoader`, else in the call, and outside a compiled graph.
        decoder: what decodes JPEG rows for a GPU: "cpu", the store's own decoder, or "nvjpeg", the GPU, whose pixels
            differ in the last bits; on the CPU it is always the former.
        inplace: write into the images that are passed, instead of new ones; not with `geometry`.
        geometry: crop, resize (bilinear, antialiased) and mirror images and counterparts, which are then uint8 of any
            size, and normalize the result with `mean` and `std`; None: images come as they are to be mixed. The box of
            a patch counts in pixels of the output.
        counterpart_crop: with `geometry`: "own" draws a crop and a mirror flag for each counterpart, "same" takes those
            of its image, which must be of the store's size.
        dtype: with `geometry`, of the output: float32 (if None), float16, bfloat16 or uint8.
        memory_format: with `geometry`, of the output: contiguous (if None) or channels_last.

    Attributes:
        round: int64 scalar on the device, a buffer: what the next forward pass draws with.
        config: the `PlanConfig` of the settings.
        image_shape: (C, H, W) of the store's images.

    Raises:
        ValueError: a setting is outside its range.
        StoreError: the store does not fit into the memory that `residency` asks for.
    """

    round: Tensor

    def __init__(
        self,
        store: CounterpartStore,
        *,
        p: float = 1.0,
        pixel_prob: float = 0.5,
        lam: LamSpec = (0.0, 1.0),
        box_area: float | tuple[float, float] = (0.0, 1.0),
        box_placement: BoxPlacement = "clipped",
        real_patch_prob: float = 0.5,
        row_choice: RowChoice = "random",
        mean: Sequence[float] | Tensor | float | None = None,
        std: Sequence[float] | Tensor | float | None = None,
        seed: int = 0,
        residency: Residency = "auto",
        decoder: Decoder = "cpu",
        inplace: bool = False,
        geometry: RandomResizedCropMirror | None = None,
        counterpart_crop: CounterpartCrop = "own",
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format | None = None,
    ) -> None:
        super().__init__()
        self._seed = _checked_seed(seed)
        self._geometry = _geometry_stage(geometry, counterpart_crop, dtype, memory_format, inplace)
        self.config = PlanConfig(p, pixel_prob, lam, box_area, box_placement, real_patch_prob, row_choice)
        self._inplace = inplace
        self.image_shape = store.image_shape
        self._store = store
        self._residency: Residency = residency
        check_decoder(store, decoder)
        self.decoder: Decoder = decoder
        self._advance = True
        self._norm = affine_of(mean, std, store.image_shape[0])
        self._lam_table = self.config.lam_table()
        # On the CPU the store stays mapped from its files until the module is moved, unless "device" asks for a copy.
        self._resident = ResidentStore(store, torch.device("cpu"), residency, decoder)
        self.handover = Handover()
        self._laid_out = False
        self._prepare()
        self.register_buffer("round", torch.zeros((), dtype=torch.int64))
        # DistributedDataParallel writes the buffers of rank 0 over those of the others before each forward pass. Rounds
        # are the same on all ranks; what was counted is not, so it is no buffer.
        self.status = torch.zeros(4, dtype=torch.int32)

    def _prepare(self) -> None:
        """Lay out what is the same for every batch, for the device where the store is now."""
        held, stage = self._resident, self._geometry
        crops = () if stage is None else (stage.side_table, stage.config.parameters())
        source = Source(
            held.shards, held.pairs, held.row_label, self._lam_table, self._norm, self._seed, self.config.parameters(),
            *crops,
        )  # fmt: skip
        if held.mapped:
            watch(source.shards, source.pairs.pair_ptr, self._store)
        self._key = key_of(self._store)
        self._op = MixOp(source, self._inplace) if stage is None else CropMixOp(source, stage)
        self._eager: EagerCall | None = None
        self._fetcher = Fetcher(self._store, self.config, stage, torch.device("cpu"))

    @property
    def seed(self) -> int:
        """The 64-bit key of the random numbers; set anew, it holds from the next forward pass on."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._seed = _checked_seed(seed)
        self._prepare()

    @property
    def inplace(self) -> bool:
        """Whether it writes into the images that are passed."""
        return self._inplace

    @inplace.setter
    def inplace(self, inplace: bool) -> None:
        if inplace and self._geometry is not None:
            raise ValueError(_INPLACE_WITH_GEOMETRY)
        self._inplace = inplace
        self._prepare()

    @property
    def store(self) -> CounterpartStore:
        """The store that the counterparts come from."""
        return self._store

    @property
    def residency(self) -> Residency:
        """Where the counterparts live now: "device", "host" or "disk"; "auto" has been decided."""
        return self._resident.residency

    @property
    def counts_rounds(self) -> bool:
        """Whether every forward pass in training mode advances the round; False after `set_epoch`."""
        return self._advance

    @property
    def geometry(self) -> GeometryStage | None:
        """What crops, resizes and mirrors, if anything does."""
        return self._geometry

    def next_draw(self) -> Draw:
        """What the next forward pass draws its plan with; this may wait for the device."""
        return Draw(self.handover.round_of(self.round), self.seed)

    def _apply(self, fn: Any, recurse: bool = True) -> DiffCoreMix:
        # `.to(device)` brings the store along; `.half()` and the like leave the constants in float32.
        super()._apply(fn, recurse)
        device = self.round.device
        if device != self._resident.device:
            self._resident = ResidentStore(self._store, device, self._residency, self.decoder)
            self._laid_out = False
            self.handover.clear()
            self._norm = self._norm.to(device)
            self.status = self.status.to(device)
            if self._geometry is not None:
                self._geometry.to(device)
            self._lam_table = None if self._lam_table is None else self._lam_table.to(device)
            self._prepare()
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_op", "_eager", "_fetcher")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._prepare()

    def set_epoch(self, epoch: SupportsIndex) -> None:
        """Make the epoch the round, instead of a count of forward passes; call it before every epoch, on every rank.

        A CUDA graph keeps advancing or keeping the round as it did when it was captured, from the epoch that is set.
        The epoch before it is checked, as `check` does.

        Args:
            epoch: an integer of any type, from 0 to 2³² − 1: the round is one word of the counter.

        Raises:
            ValueError: epoch is negative, or 2³² or more.
            TypeError: it is no integer.
            StoreError: of `check`.
        """
        number = _checked_epoch(epoch)
        self.check()
        self.round.fill_(number)
        self._advance = False

    def get_extra_state(self) -> dict[str, Any]:
        """What `state_dict` holds beside the round: how to go on, and what must be the same for that."""
        settings = {field.name: repr(getattr(self.config, field.name)) for field in fields(self.config)}
        scale, shift = self._norm[0, :, ::2].T.tolist()
        settings |= {"mean and std": f"scale {scale}, shift {shift}"}
        settings |= {"decoder": self.decoder}
        settings |= {"geometry": "None"} if self._geometry is None else self._geometry.settings()
        return {
            "seed": self.seed,
            "advance": self._advance,
            "stream": STREAM_VERSION,
            "settings": settings,
            "store": self._store.checksum,
            "pairs": self._store.num_pairs,
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on exactly where the saved module was: its seed, and its way to count rounds.

        Raises:
            ValueError: it drew other random numbers, had other settings or another store, so that the images would not
                be those that it would have gone on with, or is no state of a `DiffCoreMix`. A checkpoint that does not
                say so is not compared: to go on with a store that has grown since, take `store` and `pairs` out of the
                state.
        """
        match state:
            case {"seed": int(seed), "advance": bool(advance)} if isinstance(state.get("settings", {}), dict):
                _checked_seed(seed)
            case _:
                raise ValueError(
                    "the checkpoint's `_extra_state` is not that of a DiffCoreMix, which holds seed, advance and "
                    f"settings; give the one that was saved{_OR_ANEW}."
                )
        stream = state.get("stream", STREAM_VERSION)
        if stream != STREAM_VERSION:
            raise ValueError(
                f"the checkpoint draws by version {stream} of the random stream, but this diffcore-gpu by version "
                f"{STREAM_VERSION}; go on with the version that made it{_OR_ANEW}."
            )
        now = self.get_extra_state()
        for name, value in state.get("settings", {}).items():
            if now["settings"].get(name) != value:
                raise ValueError(
                    f"the checkpoint was made with {name} = {value}, but this DiffCoreMix has "
                    f"{now['settings'].get(name)}; make it with the same settings{_OR_ANEW}."
                )
        if any(state.get(name, now[name]) != now[name] for name in ("store", "pairs")):
            raise ValueError(other_store(self._store, state.get("store"), _OR_ANEW))
        self._seed, self._advance = seed, advance
        self._prepare()

    def check(self) -> None:
        """Raise if a forward pass met an index, a row or a label that does not fit the store; it waits for the device.

        On a GPU such samples are not mixed and are counted, since looking at each batch would stall the device. The
        count starts anew. Each rank counts what it met itself. `set_epoch` and the end of a `PrefetchLoader` call this;
        in other loops, do so once an epoch.

        Raises:
            StoreError: naming how many.
        """
        indices, rows, labels, _ = self.status.tolist()
        self.status.zero_()
        if indices:
            raise StoreError(
                f"{self._store.path}: {indices} samples had an index outside the store, which was made for "
                f"{self._store.num_samples} samples; was the index taken from this dataset?"
            )
        if rows:
            raise StoreError(f"{self._store.path}: {rows} pairs name a row that the store does not have; verify it.")
        if labels:
            raise StoreError(
                f"{self._store.path}: {labels} samples had a label that differs from their counterpart's; was the "
                "store made for this dataset?"
            )

    def extra_repr(self) -> str:
        """The settings, for `print(model)`."""
        c = self.config
        return (
            f"{self._store.path}, p={c.p}, pixel_prob={c.pixel_prob}, lam={c.lam}, box_area={c.box_area}, "
            f"box_placement={c.box_placement!r}, real_patch_prob={c.real_patch_prob}, row_choice={c.row_choice!r}, "
            f"seed={self.seed}"
        )

    def _check(self, images: Tensor, index: Tensor, labels: Tensor | None) -> None:
        if self._geometry is not None:
            self._geometry.check(images, self.image_shape)
        else:
            check_images(images)
            if images.shape[1:] != self.image_shape:
                got, held = "×".join(map(str, images.shape[1:])), "×".join(map(str, self.image_shape))
                raise ValueError(
                    f"images are {got} (C×H×W), but the store holds {held}; resize them, pass geometry=, or pack the "
                    "store anew."
                )
        if index.dtype != torch.int64 or index.dim() != 1:
            raise ValueError(f"index must be an int64 vector [B], got {index.dtype} {list(index.shape)}.")
        if index.shape[0] != images.shape[0]:
            raise ValueError(f"index has {index.shape[0]} entries, but the batch has {images.shape[0]} images.")
        device = images.device
        if index.device != device:
            raise _elsewhere("index", index.device, device)
        if self._resident.device != device:
            raise _elsewhere("DiffCoreMix", self._resident.device, device)
        if labels is not None:
            if labels.dtype != torch.int64 or labels.shape != index.shape:
                raise ValueError(f"labels must be int64 {list(index.shape)}, got {labels.dtype} {list(labels.shape)}.")
            if labels.device != device:
                raise _elsewhere("labels", labels.device, device)

    @overload
    def forward(
        self, images: Tensor, index: Tensor, *, labels: Tensor | None = None, return_plan: Literal[False] = False
    ) -> Tensor: ...
    @overload
    def forward(
        self, images: Tensor, index: Tensor, *, labels: Tensor | None = None, return_plan: Literal[True]
    ) -> tuple[Tensor, MixPlan]: ...
    def forward(
        self, images: Tensor, index: Tensor, *, labels: Tensor | None = None, return_plan: bool = False
    ) -> Tensor | tuple[Tensor, MixPlan]:
        """Mix a batch.

        Args:
            images: [B, C, H, W] of the store's size; float32, float16 or bfloat16, normalized with `mean` and `std`, or
                uint8 in [0, 255]. With `geometry`: uint8 of any size. Contiguous and channels_last are taken as they
                are, other strides are copied.
            index: int64 [B], each image's index in the dataset that the store was made for, on images' device.
            labels: int64 [B], the images' classes, on images' device; a sample whose counterpart is of another class
                is then refused: on the CPU at once, on a GPU it is not mixed, and `check` raises. None: not compared.
            return_plan: also return what was done.

        Returns:
            The mixed batch, of the same shape, dtype, memory format and device; with `geometry` of its size, dtype and
            memory format. With `return_plan` also its `MixPlan`. Samples without a counterpart are not mixed.

        Raises:
            ValueError: the batch, its index and the store do not fit together; on the CPU also an index outside the
                store (on a GPU, `check` finds it); on a GPU with "disk" or "host", this is not the batch that a
                `PrefetchLoader` yielded last.
            StoreError: on the CPU, a file of the store has changed since it was opened.
        """
        if not torch.compiler.is_compiling():
            # A call like the last one is neither checked again nor dispatched.
            if self._eager is not None and not return_plan and self.training and self.handover.batch is None:
                mixed = self._eager(images, index, labels, self.round, self.status, self._advance)
                if mixed is not None:
                    return mixed
            # Entering a range costs 5 µs, even where nobody looks.
            if self.training and is_profiled():
                with record_function("diffcore::mix"):
                    return self._mix(images, index, labels, return_plan)
        if self.training:
            return self._mix(images, index, labels, return_plan)
        shown = images
        if self._geometry is not None:
            self._geometry.check(images, self.image_shape)
            shown = self._geometry.evaluate(as_dense(images), self._norm)
        return (shown, neutral_plan(index)) if return_plan else shown

    def _mix(
        self, images: Tensor, index: Tensor, labels: Tensor | None, return_plan: bool
    ) -> Tensor | tuple[Tensor, MixPlan]:
        """Check, choose where the counterparts come from, and make one call."""
        self._check(images, index, labels)
        if labels is None:
            notice_unbound(self._key)
        if self._resident.prefetched or self._resident.fetched:
            return self._mix_fetched(images, index, labels, return_plan)  # type: ignore[no-any-return]
        compiling = torch.compiler.is_compiling()
        # What the rows are read from is at hand as well, so a batch that was not prefetched is no mistake here, and a
        # compiled graph, to which the prefetched rows are unknown, draws for itself: the images are the same.
        if not compiling and self.handover.batch is not None:
            found = self.handover.find(index, self.next_draw())
            if isinstance(found, Prefetched):
                return self._mix_with(found, images, index, labels, return_plan)
        if not compiling and not self._laid_out:
            self._lay_out(images)
        arguments = images, index, labels, self.round, self.status, self._advance
        if return_plan:
            return self._op.with_plan(*arguments)
        mixed = self._op(*arguments)
        if not compiling and may_bypass(images):
            self._eager = self._op.eager(images, index, labels, self._advance)
        return mixed

    def _lay_out(self, images: Tensor) -> None:
        """On a GPU that holds the store, bring its rows into the memory format of the first batch, once."""
        self._laid_out = True
        if self._geometry is None and images.is_cuda and not as_dense(images).is_contiguous():
            if torch.cuda.is_current_stream_capturing():
                self._laid_out = False  # a graph must not hold the copy; its kernel reads the rows as they are
                return
            self._resident = self._resident.laid_out(torch.channels_last)
            self._prepare()

    @torch.compiler.disable(reason=_NOT_IN_A_GRAPH)  # type: ignore[untyped-decorator]
    def _mix_fetched(
        self, images: Tensor, index: Tensor, labels: Tensor | None, return_plan: bool
    ) -> Tensor | tuple[Tensor, MixPlan]:
        """Mix with counterparts that a `PrefetchLoader` has brought, or that are fetched now."""
        if images.is_cuda and torch.cuda.is_current_stream_capturing():
            raise ValueError(
                f'A CUDA graph cannot hold a mix with residency="{self.residency}", whose counterparts come anew with '
                'every batch; use residency="device", or mix outside the graph.'
            )
        now = self.next_draw()
        found = self.handover.find(index, now)
        if isinstance(found, str) and self._resident.fetched:
            height, width = images.shape[-2:]
            found, _ = self._fetcher.fetch(index, (height, width), now)
        if isinstance(found, str):
            raise ValueError(
                f"{self._store.path} is not in the memory of {images.device}, and {found}; iterate over "
                "PrefetchLoader(loader, mix, device) and call mix(images, index) once with each index that it yields."
            )
        return self._mix_with(found, images, index, labels, return_plan)

    def _mix_with(
        self, batch: Prefetched, images: Tensor, index: Tensor, labels: Tensor | None, return_plan: bool
    ) -> Tensor | tuple[Tensor, MixPlan]:
        """Mix with counterparts that are there, by the plan that they were fetched for."""
        plan, slot = batch.plan, batch.slot
        if labels is not None:
            if labels.device.type == "cpu":
                check_labels(index, labels, plan.row, batch.label)
            wrong = (slot >= 0) & (labels != batch.label)
            self.status[2].add_(wrong.sum(dtype=torch.int32))
            slot, plan = torch.where(wrong, -1, slot), replace(plan, row=torch.where(wrong, -1, plan.row))
        mixed = self._op.given(images, batch.rows, replace(plan, row=slot))
        if self._advance:
            self.handover.advance(self.round)
        return (mixed, plan) if return_plan else mixed


def _checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must be an integer of 64 bits, got {seed!r}.")
    return seed


def _checked_epoch(epoch: SupportsIndex) -> int:
    try:
        number = operator.index(epoch)
    except TypeError:
        raise TypeError(f"epoch must be an integer, got {epoch!r}.") from None
    if isinstance(epoch, bool):
        raise TypeError(f"epoch must be an integer, got {epoch}.")
    if not 0 <= number < 2**32:
        raise ValueError(f"epoch must be 0 or above and less than 2**32, got {number}.")
    return number


def _elsewhere(name: str, device: torch.device, expected: torch.device) -> ValueError:
    return ValueError(f"{name} is on {device}, but the images are on {expected}; move it there.")


def _geometry_stage(
    geometry: RandomResizedCropMirror | None,
    counterpart_crop: CounterpartCrop,
    dtype: torch.dtype | None,
    memory_format: torch.memory_format | None,
    inplace: bool,
) -> GeometryStage | None:
    if geometry is not None:
        if inplace:
            raise ValueError(_INPLACE_WITH_GEOMETRY)
        return GeometryStage(
            geometry, counterpart_crop, dtype or torch.float32, memory_format or torch.contiguous_format
        )
    if counterpart_crop != "own" or dtype is not None or memory_format is not None:
        raise ValueError(
            "counterpart_crop, dtype and memory_format go with geometry=; without it, images keep their own."
        )
    return None
