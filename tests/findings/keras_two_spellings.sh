#!/usr/bin/env bash
# Keras 3.15.1: keras.distillation.LogitsDistillation(loss="kl_divergence"), its
# default, and loss="KLDivergence" are two different losses.
#
# Guess: both strings name one loss, as they do in model.compile(loss=...). So both give
# T^2 * KL(softmax(teacher / T) || softmax(student / T)), and 0 for a student whose
# logits are the teacher's plus 1, since its probabilities are the same.
#
# Seen: only "KLDivergence" does. The string of the default becomes a function, no
# instance of the class KLDivergence, and so the branch with softmax and T^2 is not
# taken: logits / T, clipped to [1e-7, 1], enter the divergence as if they were
# probabilities. The value is below 0 where it should be 0, and the gradient points
# elsewhere.
#
#     by hand         8.2255, student = teacher + 1: -0.0000, gradient cosine 1.000
#     KLDivergence    8.2255, student = teacher + 1: -0.0000, gradient cosine 1.000
#     kl_divergence  20.6831, student = teacher + 1: -0.6517, gradient cosine 0.105
#     default        20.6831, student = teacher + 1: -0.6517, gradient cosine 0.105
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.13.0 keras==3.15.1

cat > "$folder/two_spellings.py" <<'PYTHON'
import keras
import torch

T = 4.0
torch.manual_seed(0)
teacher = 3 * torch.randn(64, 10)
other = 3 * torch.randn(64, 10)


def by_hand(teacher, student):
    log_p = torch.log_softmax(teacher / T, dim=1)
    log_q = torch.log_softmax(student / T, dim=1)
    return T**2 * (log_p.exp() * (log_p - log_q)).sum(1).mean()


def value_and_gradient(loss):
    student = other.clone().requires_grad_()
    value = loss(teacher, student)
    return value.item(), torch.autograd.grad(value, student)[0].flatten()


losses = {"by hand": by_hand}
for spelling in ("KLDivergence", "kl_divergence"):
    distillation = keras.distillation.LogitsDistillation(T, loss=spelling)
    losses[spelling] = distillation.compute_loss
losses["default"] = keras.distillation.LogitsDistillation(T).compute_loss

right = value_and_gradient(by_hand)[1]
values, shifted, cosines = {}, {}, {}
for name, loss in losses.items():
    values[name], gradient = value_and_gradient(loss)
    shifted[name] = loss(teacher, teacher + 1).item()
    cosines[name] = torch.cosine_similarity(gradient, right, dim=0).item()
    text = f"student = teacher + 1: {shifted[name]:.4f}"
    print(f"{name:13} {values[name]:8.4f}, {text}, gradient cosine {cosines[name]:.3f}")

assert abs(values["KLDivergence"] / values["by hand"] - 1) < 1e-3
assert values["default"] == values["kl_divergence"]
assert values["kl_divergence"] > 2 * values["KLDivergence"]
assert abs(shifted["kl_divergence"]) > 0.01
assert cosines["kl_divergence"] < 0.5
PYTHON
KERAS_BACKEND=torch "$folder/env/bin/python" "$folder/two_spellings.py"
