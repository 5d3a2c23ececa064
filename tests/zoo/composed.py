"""Two networks written as users write them: a detector with a data-dependent branch, and a U-Net.

Owns the two modules, their factories and entries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .entry import Entry, Inputs, Sizes, finished, seeded
from .samples import images


class Detector(nn.Module):
    """A one-stage detector: anchors on one feature map, the best `keep` boxes, refined only if any is confident."""

    anchors: Tensor

    def __init__(self, classes: int = 7, keep: int = 20, threshold: float = 0.89) -> None:
        super().__init__()
        self.keep = keep
        self.threshold = threshold
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.SiLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.scores = nn.Conv2d(32, 3 * classes, 1)
        self.boxes = nn.Conv2d(32, 3 * 4, 3, padding=1)
        self.refine = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 4))
        self.classes = classes
        self.register_buffer("anchors", _anchors(16, 16, (0.1, 0.25, 0.5)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: [batch, 3, 128, 128]  ->  boxes [batch, keep, 4], scores [batch, keep], labels i64[batch, keep]"""
        features = self.stem(x)
        logits = self.scores(features).permute(0, 2, 3, 1).flatten(1, 2).reshape(x.shape[0], -1, self.classes)
        offsets = self.boxes(features).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4)
        best, label = logits.sigmoid().max(dim=-1)
        confidence, index = best.topk(self.keep, dim=1)
        boxes = torch.gather(self._decode(offsets), 1, index[..., None].expand(-1, -1, 4))
        boxes = torch.cond((confidence > self.threshold).any(), self._refined, self._clipped, (boxes,))
        return boxes, confidence, torch.gather(label, 1, index)

    def _decode(self, offsets: Tensor) -> Tensor:
        centre, size = self.anchors[:, :2], self.anchors[:, 2:]
        middle = centre + 0.1 * offsets[..., :2] * size
        extent = size * torch.exp((0.2 * offsets[..., 2:]).clamp(max=4.0))
        return torch.cat([middle - extent / 2, middle + extent / 2], dim=-1)

    def _refined(self, boxes: Tensor) -> Tensor:
        return (boxes + 0.1 * torch.tanh(self.refine(boxes))).clamp(0.0, 1.0)

    def _clipped(self, boxes: Tensor) -> Tensor:
        return boxes.clamp(0.0, 1.0)


class UNet(nn.Module):
    """Two levels down and up: one up by transposed convolution padded to the skip's size, one by bilinear resize."""

    def __init__(self, width: int = 16, classes: int = 5) -> None:
        super().__init__()
        self.enter = _block(3, width)
        self.down = _block(width, 2 * width)
        self.bottom = _block(2 * width, 4 * width)
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge = _block(4 * width, 2 * width)
        self.leave = _block(3 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, 3, height, width]  ->  [batch, classes, height, width]"""
        first = self.enter(x)
        second = self.down(F.max_pool2d(first, 2))
        up = self.up(self.bottom(F.max_pool2d(second, 2)))
        up = F.pad(up, (0, second.shape[3] - up.shape[3], 0, second.shape[2] - up.shape[2]))
        second = self.merge(torch.cat([second, up], dim=1))
        up = F.interpolate(second, size=first.shape[2:], mode="bilinear", align_corners=False)
        return self.head(self.leave(torch.cat([first, up], dim=1)))


class NearestUNet(UNet):
    """The same with nearest-neighbour resize by a factor, for sizes that are multiples of four."""

    def forward(self, x: Tensor) -> Tensor:
        """x: [batch, 3, height, width]  ->  [batch, classes, height, width]"""
        first = self.enter(x)
        second = self.down(F.max_pool2d(first, 2))
        up = self.up(self.bottom(F.avg_pool2d(second, 2)))
        second = self.merge(torch.cat([second, up], dim=1))
        up = F.interpolate(second, scale_factor=2.0, mode="nearest")
        return self.head(self.leave(torch.cat([first, up], dim=1)))


def detector(seed: int = 0) -> nn.Module:
    """The detector above; whether it refines depends on the picture."""
    with seeded(seed):
        return finished(Detector(), images(4, 128, 128, torch.Generator().manual_seed(seed)))


def unet(seed: int = 0) -> nn.Module:
    """The U-Net above, any picture size."""
    with seeded(seed):
        return finished(UNet(), images(4, 64, 64, torch.Generator().manual_seed(seed)))


def unet_nearest(seed: int = 0) -> nn.Module:
    """The U-Net above with nearest resize, at a fixed picture size."""
    with seeded(seed):
        return finished(NearestUNet(), images(4, 64, 64, torch.Generator().manual_seed(seed)))


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.GroupNorm(4, outputs),
        nn.LeakyReLU(0.1),
    )


def _anchors(rows: int, columns: int, sizes: tuple[float, ...]) -> Tensor:
    """Centre and extent of every anchor, in parts of the picture.  -> [rows * columns * len(sizes), 4]"""
    y, x, size = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, torch.tensor(sizes), indexing="ij"
    )
    return torch.stack([x, y, size, size], dim=-1).reshape(-1, 4)


def _picture(sizes: Sizes, generator: torch.Generator) -> Inputs:
    return {"x": images(sizes["batch"], 128, 128, generator)}


def _any_picture(sizes: Sizes, generator: torch.Generator) -> Inputs:
    return {"x": images(sizes["batch"], sizes["height"], sizes["width"], generator)}


_BATCHES: tuple[Sizes, ...] = ({"batch": 1}, {"batch": 2}, {"batch": 5})

ENTRIES = (
    Entry(
        name="detector",
        factory=detector,
        make=_picture,
        dynamic={"x": {0: "batch"}},
        example={"batch": 2},
        settings=_BATCHES,
        ranges={"batch": (1, 1024)},
    ),
    Entry(
        name="unet",
        factory=unet,
        make=_any_picture,
        dynamic={"x": {0: "batch", 2: "height", 3: "width"}},
        example={"batch": 2, "height": 48, "width": 64},
        settings=(
            {"batch": 1, "height": 32, "width": 32},
            {"batch": 2, "height": 33, "width": 47},
            {"batch": 3, "height": 50, "width": 70},
        ),
        ranges={"batch": (1, 1024), "height": (16, 4096), "width": (16, 4096)},
    ),
    Entry(
        name="unet_nearest",
        factory=unet_nearest,
        make=_picture,
        dynamic={"x": {0: "batch"}},
        example={"batch": 2},
        settings=_BATCHES,
        ranges={"batch": (1, 1024)},
    ),
)
