"""Claim: in one example, T = 20 makes the gradient 25.3 times shorter than T = 4.

It is that of the soft labels. With the factor T^2 it keeps its length: at T = 20 it is
0.99 times as long.

Measured: one teacher's and one student's logits for three classes, chosen by
hand. For each T the length of the gradient of KL(p || q) with respect to the student's
logits, without T^2 and with it: the latter from DistillationLoss with alpha = 1.
Nothing is trained, nothing was chosen on any image, and no chance is in it.

Why: that gradient is (q - p) / T, and for a high T the difference q - p shrinks like
1 / T as well. With T^2 it tends to the difference between the student's and the
teacher's logits, each less its mean, divided by the number of classes: the last line.

Result: the length of the gradient, without T^2 and with it.
    T =  1    0.39742    0.3974
    T =  2    0.20728    0.8291
    T =  4    0.06417    1.0267
    T = 20    0.00253    1.0136
    limit                0.9813

Not shown: that a high T is good, or that students learn more with T^2. Nor is the
length with T^2 the same at every T: it is smaller at T = 1, where the teacher is nearly
sure of one class. So a new T may need a new alpha.

Seconds: 3, nearly all of it imports.

Source: Hinton, Vinyals and Dean (2015), arXiv:1503.02531, section 2.
"""

import torch
import torch.nn.functional as F
from common import kd_mnist

teacher_logits = torch.tensor([[8.0, 4.0, 2.0]])
student_logits = torch.tensor([[5.0, 4.0, 3.0]], requires_grad=True)
labels = torch.tensor([0])  # not used: alpha = 1

print("length of the gradient of KL(p || q)")
without_factor = []
with_factor = []
for temperature in (1.0, 2.0, 4.0, 20.0):
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    kl = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    gradient = torch.autograd.grad(kl, student_logits)[0]
    without_factor.append(gradient.norm().item())

    distillation_loss = kd_mnist.DistillationLoss(temperature, alpha=1.0)
    loss = distillation_loss(student_logits, teacher_logits, labels)
    gradient = torch.autograd.grad(loss, student_logits)[0]
    with_factor.append(gradient.norm().item())

    line = f"T = {temperature:2g}: {without_factor[-1]:.5f} without T^2"
    print(f"{line}, {with_factor[-1]:.4f} with T^2")

shrinks = without_factor[2] / without_factor[3]
keeps = with_factor[3] / with_factor[2]
print(f"from T = 4 to T = 20: 1/{shrinks:.1f} as long without T^2")
print(f"from T = 4 to T = 20: {keeps:.2f} times as long with T^2")

student_centred = student_logits.detach() - student_logits.detach().mean()
teacher_centred = teacher_logits - teacher_logits.mean()
limit = (student_centred - teacher_centred) / 3
print(f"with T^2, if T grows without end: {limit.norm():.4f}")
