#!/usr/bin/env bash
# nvidia-modelopt 0.47.0: a student that is an nn.Sequential cannot be distilled.
#
# Guess: modelopt.torch.distill.convert takes any nn.Module; an nn.Sequential 784-128-10
# gives the same logits after it as before, as the same layers inside another module do.
#
# Seen: convert keeps the teacher and its list of losses as children of the student. A
# Sequential runs all its children in turn, so these became its layers, and the first
# call fails.
#
#     inside another module, the logits change by 0.0
#     an nn.Sequential has the children ['0', '1', '2', '3', '_loss_modules',
#         '_teacher_model']
#     its error: Module [ModuleList] is missing the required "forward" function
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
# It imports the last two without asking for them.
packages=(torch==2.13.0 nvidia-modelopt==0.47.0 requests==2.34.2 huggingface_hub==2.4.0)
"$folder/env/bin/pip" install --quiet "${packages[@]}"

cat > "$folder/sequential.py" <<'PYTHON'
import modelopt.torch.distill as distill
import torch
from torch import nn


class Wrapped(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images)


def new_network(hidden):
    layers = nn.Flatten(), nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)
    return nn.Sequential(*layers)


def convert(student):
    settings = {
        "teacher_model": new_network(800),
        "criterion": distill.LogitsDistillationLoss(reduction="batchmean"),
    }
    return distill.convert(student, [("kd_loss", settings)])


torch.manual_seed(0)
images = torch.rand(4, 1, 28, 28)
network = new_network(128)
before = network(images)

inside = convert(Wrapped(network))
change = (inside(images) - before).abs().max().item()
print("inside another module, the logits change by", change)
assert change == 0

alone = convert(new_network(128))
print("an nn.Sequential has the children", [name for name, _ in alone.named_children()])
message = "none: it works"
try:
    alone(images)
except NotImplementedError as error:
    message = str(error)
print("its error:", message)
assert 'missing the required "forward" function' in message
PYTHON
"$folder/env/bin/python" -W ignore "$folder/sequential.py"
