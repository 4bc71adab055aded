"""The textbook's distillation loop, as the field writes it; benchmark.py times it.

    python tests/textbook.py DATA_DIR [TEACHER_EPOCHS STUDENT_EPOCHS SEED]

Prints the test accuracies as one line of JSON.
"""

import json
import sys

import torch
import torch.nn.functional as F
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import datasets, transforms


class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(32 * 7 * 7, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        return self.fc(x.view(x.size(0), -1))


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x.view(x.size(0), -1))))


def distillation_loss(student_logits, teacher_logits, labels, T=2.0, alpha=0.5):
    soft = nn.KLDivLoss(reduction="batchmean")(
        F.log_softmax(student_logits / T, dim=1), F.softmax(teacher_logits / T, dim=1)
    )
    return alpha * soft * T * T + (1 - alpha) * F.cross_entropy(student_logits, labels)


def evaluate(model, loader):
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in loader:
            correct += (model(images).argmax(dim=1) == labels).sum().item()
    return correct / len(loader.dataset)


def main(data_dir, teacher_epochs=5, student_epochs=5, seed=0):
    torch.manual_seed(int(seed))
    transform = transforms.ToTensor()
    train_data = datasets.MNIST(
        data_dir, train=True, download=True, transform=transform
    )
    test_data = datasets.MNIST(
        data_dir, train=False, download=True, transform=transform
    )
    train_loader = DataLoader(train_data, batch_size=128, shuffle=True)
    test_loader = DataLoader(test_data, batch_size=1000)

    teacher, student, accuracy = Teacher(), Student(), {}
    optimizer = optim.Adam(teacher.parameters(), lr=1e-3)
    for epoch in range(int(teacher_epochs)):
        teacher.train()
        running_loss = 0.0
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(teacher(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        accuracy["teacher"] = evaluate(teacher, test_loader)

    teacher.eval()
    optimizer = optim.Adam(student.parameters(), lr=1e-3)
    for epoch in range(int(student_epochs)):
        student.train()
        running_loss = 0.0
        for images, labels in train_loader:
            with torch.no_grad():
                teacher_logits = teacher(images)
            optimizer.zero_grad()
            loss = distillation_loss(student(images), teacher_logits, labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        accuracy["student"] = evaluate(student, test_loader)
    print(json.dumps({"accuracy": accuracy}))


if __name__ == "__main__":
    main(*sys.argv[1:])
