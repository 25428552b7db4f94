"""Modules as people write them for Lightning alone: nothing here knows of otter_ray."""

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Blobs(L.LightningDataModule):
    """Images of three classes, split at random without a seed of its own."""

    def __init__(self, count: int = 240, batch_size: int = 32, noise: float = 0.5):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        if stage == "fit":
            generator = torch.Generator().manual_seed(0)
            means = torch.rand(3, 1, 8, 8, generator=generator)
            labels = torch.arange(self.hparams.count) % 3
            noise = torch.randn(len(labels), 1, 8, 8, generator=generator)
            images = means[labels] + self.hparams.noise * noise
            self.train_set, self.valid_set = random_split(TensorDataset(images, labels), [0.75, 0.25])

    def train_dataloader(self):
        return DataLoader(self.train_set, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.valid_set, self.hparams.batch_size)


class LitBlobs(L.LightningModule):
    def __init__(self, width: int = 16, lr: float = 0.003, activation: nn.Module | None = None):
        super().__init__()
        self.save_hyperparameters()
        activation = activation or nn.ReLU()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, width), activation, nn.Linear(width, 3))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        self.log("val_loss", nn.functional.cross_entropy(logits, y))
        self.log("val_acc", (logits.argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]


class ByHand(LitBlobs):
    """Two optimizers, stepped by the module itself."""

    def __init__(self, lr: float = 0.003):
        super().__init__(lr=lr)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        x, y = batch
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(nn.functional.cross_entropy(self(x), y))
            optimizer.step()

    def configure_optimizers(self):
        first, last = self.net[1], self.net[3]
        return [torch.optim.SGD(part.parameters(), lr=self.hparams.lr) for part in (first, last)]


class NamesItsOutputs(LitBlobs):
    def forward(self, x):
        logits = self.net(x)
        return {"logits": logits, "best": logits.argmax(1)}

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0])["logits"], batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch[0])["best"] == batch[1]).float().mean())


class GoesAroundForward(LitBlobs):
    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())


class NeverValidates(L.LightningModule):
    def training_step(self, batch, batch_idx):
        return None


class NothingToValidate(Blobs):
    def val_dataloader(self):
        return DataLoader([])
