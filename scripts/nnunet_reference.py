"""nnU-Net's own answers, from files on, for scripts/check_nnunet.py: it runs this file where nnunetv2 is installed.

nnunet_reference.py CASES.json   each with `model`, `folds`, `checkpoint`, `files` and `out`, an .npz file to write:

logits: (K, x, y, z) or (K, y, x) on the grid as nnU-Net's reader has it, NaN where it cropped; accumulated in fp32.
half: the same with the fp16 accumulators that nnU-Net has.  classes: the mask that nnU-Net would export.  resampled: whether it resampled.
"""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from nnunetv2.inference import predict_from_raw_data
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape


class InSingle(ModuleType):
    """torch, but for `half`: nnU-Net asks for it by that name where it makes its accumulators."""

    half = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def answers(case: dict[str, Any]) -> dict[str, Any]:
    predictor = predict_from_raw_data.nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(case["model"], case["folds"], f"checkpoint_{case['checkpoint']}.pth")
    plans, planned = predictor.plans_manager, predictor.configuration_manager
    data, _, properties = planned.preprocessor_class(verbose=False).run_case(case["files"], None, plans, planned, predictor.dataset_json)
    tensor = torch.from_numpy(data).to(dtype=torch.float32, memory_format=torch.contiguous_format)
    half = predictor.predict_logits_from_preprocessed_data(tensor).float()
    predict_from_raw_data.torch = InSingle("torch")
    try:
        single = predictor.predict_logits_from_preprocessed_data(tensor)
    finally:
        predict_from_raw_data.torch = torch
    assert half.dtype == single.dtype == torch.float32
    resampled = tuple(single.shape[1:]) != tuple(properties["shape_after_cropping_and_before_resampling"])
    mask = convert_predicted_logits_to_segmentation_with_correct_shape(
        single.clone(), plans, planned, predictor.label_manager, properties, num_threads_torch=1
    )
    found = {"classes": stored(np.asarray(mask)[None], case["pictures"])[0], "resampled": resampled}
    if not resampled:
        for name, logits in (("logits", single), ("half", half)):
            whole = np.full((len(logits), *properties["shape_before_cropping"]), np.nan, np.float32)
            whole[(slice(None), *(slice(*bounds) for bounds in properties["bbox_used_for_cropping"]))] = logits.numpy()
            whole = whole.transpose(0, *(1 + axis for axis in plans.transpose_backward))
            found[name] = stored(whole, case["pictures"])
    return found


def stored(values: Any, pictures: bool) -> Any:
    """(K, z, y, x) of nnU-Net's readers as (K, x, y, z), or (K, y, x) of pictures."""
    return values[:, 0] if pictures else values.transpose(0, 3, 2, 1)


if __name__ == "__main__":
    for case in json.loads(Path(sys.argv[1]).read_text()):
        np.savez(case["out"], **answers(case))
