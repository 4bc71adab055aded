#!/usr/bin/env bash
# timm 1.0.31: two of its networks for grey images cannot always distil one another.
#
# Guess: LogitDistillationTask takes any two timm networks made with in_chans=1.
#
# Seen: only if their default means and deviations are the same numbers. If not, the
# images are shifted from the student's to the teacher's. These numbers are for red,
# green and blue, with in_chans=1 too: the grey images become three channels wide, and
# the teacher fails. In colour, the same pair works.
#
#     resnet10t, resnet18, in_chans=1: loss 2.4
#     resnet10t, test_vit2, in_chans=3: loss 2.4
#     resnet10t, test_vit2, in_chans=1: Given groups=1, weight of size
#         [64, 1, 16, 16], expected input[4, 3, 160, 160] to have 1 channels, but got 3
#         channels instead
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.14.1 torchvision==0.29.1 timm==1.0.31

cat > "$folder/grey.py" <<'PYTHON'
import timm
import torch
from timm.task import LogitDistillationTask
from torch import nn


def attempt(student_name, teacher_name, channels):
    torch.manual_seed(0)
    size = {"in_chans": channels, "num_classes": 10}
    student = timm.create_model(student_name, **size)
    teacher = timm.create_model(teacher_name, **size)
    hard = nn.CrossEntropyLoss()
    task = LogitDistillationTask(student, teacher, hard, verbose=False)
    images, labels = torch.rand(4, channels, 160, 160), torch.arange(4)
    try:
        result = f"loss {task(images, labels)['loss'].item():.1f}"
    except RuntimeError as error:
        result = str(error)
    print(f"{student_name}, {teacher_name}, in_chans={channels}: {result}")
    return result


assert attempt("resnet10t", "resnet18", 1).startswith("loss")
assert attempt("resnet10t", "test_vit2", 3).startswith("loss")
assert attempt("resnet10t", "test_vit2", 1).endswith("got 3 channels instead")
PYTHON
"$folder/env/bin/python" -W ignore "$folder/grey.py"
