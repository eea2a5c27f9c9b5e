"""What a training writes into its model file, beside the network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from allaprima.core.contract import Card
from allaprima.media.pictures import read_rgb, to_jpeg
from allaprima.models.export import thumbnail
from allaprima.models.tensors import read_style, to_image
from allaprima.train import loss, schedule, soap
from allaprima.train.settings import BUNDLED

SHOWN = BUNDLED / "chelsea.jpg"  # the photo that stands for a style whose painting may not be included


def make_card(trainer, style, name, credit="", licence="", painting=True) -> Card:
    """The card of a finished training on the painting `style`.

    painting: whether the painting goes along, as the training saw it; its Gram matrices do instead where it may not.
    No folder of this machine is written down: of the settings that are paths, the last part is. With the settings go the
    start that the network had, the numbers that are `fixed`, and `rate_factor`, the part of the learning rate that was left
    after divergences.
    """
    settings = trainer.settings.to_dict() | {"start": trainer.start}
    settings |= {"fixed": fixed_numbers(), "rate_factor": trainer.rate_factor}
    for key in ("photos", "loss_weights"):
        settings[key] = settings[key] and Path(settings[key]).name
    card = Card(
        name=name,
        credit=credit,
        licence=licence,
        settings=settings,
        objective=trainer.objective.to_dict(),
        losses={"held_out": trainer.held_out_costs(), "trained_seconds": round(trainer.seconds, 1)},
    )
    if painting:
        seen = to_image(read_style(style, settings["style_size"]))
        return replace(card, painting=to_jpeg(seen), thumbnail=thumbnail(seen))
    grams = {layer: gram[0].float().cpu().numpy() for layer, gram in trainer.style_targets.items()}
    shown = trainer.stylize(torch.from_numpy(np.array(read_rgb(SHOWN))).permute(2, 0, 1))
    return replace(card, grams=grams, thumbnail=thumbnail(to_image(shown)))


def fixed_numbers() -> dict[str, dict]:
    """What shapes every training and is not a setting, by file: the upper-case numbers of schedule.py, loss.py, soap.py."""
    files = {"schedule": schedule, "loss": loss, "soap": soap}
    return {
        file: {name.lower(): value for name, value in vars(module).items() if name.isupper()}
        for file, module in files.items()
    }
