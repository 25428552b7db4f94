"""Modules with habits that Lightning allows, and that a run, the gate or a study could stumble over."""

from typing import NamedTuple

import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset, random_split

from tests.support.plain_digits import Blobs, LitBlobs


class Answer(NamedTuple):
    logits: torch.Tensor
    best: torch.Tensor


class ModelAnswer(dict):
    """As the outputs of transformers: a mapping whose items are attributes too."""

    def __init__(self, logits=None, best=None):
        super().__init__(logits=logits, best=best)
        self.logits, self.best = logits, best


class Tuples(LitBlobs):
    kind = Answer

    def forward(self, x):
        logits = self.net(x)
        return self.kind(logits=logits, best=logits.argmax(1))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]).logits, batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch[0]).best == batch[1]).float().mean())


class Mappings(Tuples):
    kind = ModelAnswer


class AsksInVain(LitBlobs):
    """Calls itself, and measures something else."""

    def validation_step(self, batch, batch_idx):
        self(batch[0])
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())


class AlwaysFirst(LitBlobs):
    """Says the first class, whatever it sees."""

    def forward(self, x):
        return 0 * self.net(x) + torch.tensor([1.0, 0.0, 0.0])


class LogsTwice(LitBlobs):
    """The training logs another value of the metric's name."""

    def training_step(self, batch, batch_idx):
        self.log("val_acc", 7.0, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)


class PartlyFrozen(LitBlobs):
    def __init__(self, lr: float = 0.003):
        super().__init__(lr=lr)
        self.frozen = nn.Sequential(nn.BatchNorm2d(1)).eval()

    def forward(self, x):
        return self.net(self.frozen(x))


class SavesAnObject(LitBlobs):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["vocabulary"] = TensorDataset(torch.zeros(1))


class TakesLabels(LitBlobs):
    def forward(self, x, y=None):
        return self.net(x)

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(x=batch[0], y=batch[1]).argmax(1) == batch[1]).float().mean())


class LogsPictures(LitBlobs):
    def validation_step(self, batch, batch_idx):
        self.logger.experiment.add_text("text", "some text")
        super().validation_step(batch, batch_idx)


class AnyOptions(LitBlobs):
    def __init__(self, lr: float = 0.003, **kwargs):
        super().__init__(lr=lr, width=kwargs["size"])


class HasLoaders(LitBlobs):
    """A module with its own data, which is there in a training alone."""

    def setup(self, stage=None):
        if stage == "fit":
            self.data = Blobs(count=48)
            self.data.setup("fit")

    def teardown(self, stage=None):
        if stage == "fit":
            del self.data

    def train_dataloader(self):
        return self.data.train_dataloader()

    def val_dataloader(self):
        return self.data.val_dataloader()


class SplitsAtOnce(LitBlobs):
    """Splits at random where it is made."""

    def __init__(self):
        super().__init__()
        images, labels = torch.rand(48, 1, 8, 8), torch.arange(48) % 3
        self.sets = random_split(TensorDataset(images, labels), [0.75, 0.25])

    def train_dataloader(self):
        return DataLoader(self.sets[0], 8)

    def val_dataloader(self):
        return DataLoader(self.sets[1], 8)


class TidyBlobs(Blobs):
    """Frees its sets; and knows how many it has, which is none at first."""

    def __len__(self):
        return len(getattr(self, "train_set", ()))

    def teardown(self, stage=None):
        del self.train_set, self.valid_set


class DrawingBlobs(Blobs):
    """Draws random numbers where it gets its data ready: more of them each time."""

    times = 0

    def prepare_data(self):
        DrawingBlobs.times += 1
        torch.rand(DrawingBlobs.times)


class SeveralLoaders(Blobs):
    """Validates on two sets, and tests on a third one."""

    def val_dataloader(self):
        return [super().val_dataloader(), DataLoader(Subset(self.train_set, range(8)), batch_size=8)]

    def test_dataloader(self):
        return DataLoader(self.train_set, batch_size=8)


class TakesSeveral(LitBlobs):
    """Validates on several loaders, and has a test."""

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        super().validation_step(batch, batch_idx)

    def test_step(self, batch, batch_idx):
        self.log("test_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())


class TestsElse(TakesSeveral):
    def test_step(self, batch, batch_idx):
        self(batch[0])
        self.log("error", 1.0)


class TestsAround(TakesSeveral):
    """Its test goes around forward."""

    def test_step(self, batch, batch_idx):
        self.log("test_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())


class TestedBlobs(Blobs):
    def test_dataloader(self):
        return DataLoader(self.train_set, batch_size=8)


class DictBlobs(Blobs):
    """Batches of mappings, with more in them than the network takes."""

    def val_dataloader(self):
        return self.named(self.valid_set)

    def train_dataloader(self):
        return self.named(self.train_set)

    def named(self, data):
        rows = [{"name": "a", "parts": {"image": x, "scale": torch.ones(1)}, "label": y} for x, y in data]
        return DataLoader(rows, batch_size=12)


class TakesMapping(LitBlobs):
    """Its forward takes a mapping and a constant, and what it returns holds one."""

    def forward(self, parts, gain: float = 1.0, *, bias: int = 0):
        logits = self.net(parts["image"] * parts["scale"].reshape(-1, 1, 1, 1)) * gain + bias
        return {"logits": logits, "kind": "blobs"}

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch["parts"], 1.0)["logits"], batch["label"])

    def validation_step(self, batch, batch_idx):
        logits = self(batch["parts"], 1.0, bias=0)["logits"]
        self.log("val_acc", (logits.argmax(1) == batch["label"]).float().mean())


class FlattensFirst(LitBlobs):
    """Calls its network with something else than an element of a batch, after it has logged."""

    def forward(self, rows):
        return self.net(rows)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("seen", float(self.trainer.num_val_batches[0]))
        super().validation_step((batch[0].flatten(1), batch[1]), batch_idx)


class HasAnExample(LitBlobs):
    """Its validation goes around forward, which takes something else than a batch has."""

    def __init__(self, lr: float = 0.003):
        super().__init__(lr=lr)
        self.example_input_array = torch.rand(3, 64)

    def forward(self, rows):
        return self.net(rows)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())


class LeavesOneOut(LitBlobs):
    """Its validation gives the last argument of three, and not the one before."""

    def forward(self, x, shift=None, doubled=False):
        logits = self.net(x) * (2 if doubled else 1)
        return logits if shift is None else logits + 100 * shift

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch[0], doubled=True).argmax(1) == batch[1]).float().mean())


class TakesBoth(LitBlobs):
    """Takes the elements of a batch in another order than a batch has them."""

    def forward(self, shift, x):
        return self.net(x) + shift[:, None]

    def validation_step(self, batch, batch_idx):
        logits = self(x=batch[0], shift=batch[1])
        self.log("val_acc", (logits.argmax(1) == batch[1]).float().mean())


class ChangesItsGain(LitBlobs):
    def forward(self, x, gain: float):
        return self.net(x) * gain

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch[0], batch_idx + 1.0).argmax(1) == batch[1]).float().mean())


class NamesBothAlike(TakesMapping):
    def forward(self, parts, gain: float = 1.0, *, bias: int = 0):
        return {"image": super().forward(parts, gain, bias=bias)["logits"]}


class PairedBlobs(Blobs):
    """Each batch is one of the first loader and one of the second."""

    def val_dataloader(self):
        loaders = [super().val_dataloader(), DataLoader(self.train_set, batch_size=4)]
        return CombinedLoader(loaders, "min_size")


class TakesPairs(LitBlobs):
    def validation_step(self, batch, batch_idx, dataloader_idx=7):
        assert dataloader_idx == 7  # Lightning gives none
        (x, y), (other, _) = batch
        self.log("val_acc", (self(torch.cat([x, other])).argmax(1)[: len(y)] == y).float().mean())


class FailsFirst(LitBlobs):
    def validation_step(self, batch, batch_idx):
        raise ValueError("the labels are in another file")


class CompilesItself(LitBlobs):
    def __init__(self):
        super().__init__()
        self.net = torch.compile(self.net, backend="eager")


class OwnLogger(CSVLogger):
    """A logger of somebody's own."""
