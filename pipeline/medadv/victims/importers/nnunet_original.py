"""What does nnU-Net itself answer for a folder that it trained? Its own prediction, where it is installed; it unpickles the checkpoints."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from medadv.common.errors import SpecError, first_line


def is_installed() -> bool:
    """Whether nnU-Net can be asked."""
    return find_spec("nnunetv2") is not None


def nnunet_logits(checkpoints: Sequence[Path], file: Path) -> Tensor:
    """The logits (1, K, ...) of an image file, on the grid and with the accumulators of nnU-Net.  Only for who trusts the checkpoints.

    checkpoints: one a fold, in their folders of one training.  Raises SpecError where nnU-Net does not do its work here, saying why.
    """
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    model = checkpoints[0].parent.parent
    names = [path.parent.name.removeprefix("fold_") for path in checkpoints]
    folds = [int(name) if name.isdigit() else name for name in names]
    try:
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, perform_everything_on_device=False)
        predictor.initialize_from_trained_model_folder(str(model), folds, checkpoints[0].name)
        plans, planned = predictor.plans_manager, predictor.configuration_manager
        data, *_ = planned.preprocessor_class(verbose=False).run_case([str(file)], None, plans, planned, predictor.dataset_json)
        logits: Tensor = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data).float())
    except Exception as error:  # another tool raises what it likes
        raise SpecError(f"nnU-Net's own answer could not be had ({first_line(error)})") from None
    return logits.float()[None]
