#!/usr/bin/env bash
# deepbridge-distillation 2.0.0: KnowledgeDistillation does not learn from its teacher.
#
# Guess: alpha weighs the teacher against the labels, so with alpha=1.0 the student
# follows the teacher. A teacher whose two classes are exchanged makes another student,
# and alpha=0.0 does too.
#
# Seen: fit() computes the teacher's soft labels, and then fits the student to the hard
# labels alone. The four students are the same to the last bit. (Without student_params
# the soft labels help to choose the student's settings; its fit does not see them then
# either.)
#
#     teacher right     alpha 1.0: the same coefficients: True, 0 errors on the labels
#     teacher right     alpha 0.0: the same coefficients: True, 0 errors on the labels
#     teacher exchanged alpha 1.0: the same coefficients: True, 0 errors on the labels
#     teacher exchanged alpha 0.0: the same coefficients: True, 0 errors on the labels
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet deepbridge-distillation==2.0.0

cat > "$folder/teacher.py" <<'PYTHON'
import numpy as np
from deepbridge_distillation import KnowledgeDistillation
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

images, labels = load_digits(n_class=2, return_X_y=True)
teacher = RandomForestClassifier(random_state=0).fit(images, labels)
right = teacher.predict_proba(images)
exchanged = right[:, ::-1].copy()


def student(probabilities, alpha):
    distillation = KnowledgeDistillation(
        teacher_probabilities=probabilities,
        student_params={"C": 1.0},
        temperature=2.0,
        alpha=alpha,
    )
    distillation.fit(images, labels, verbose=False)
    return distillation.student_model


students = {}
for name, probabilities in (("right", right), ("exchanged", exchanged)):
    for alpha in (1.0, 0.0):
        students[name, alpha] = student(probabilities, alpha)
print()
first = students["right", 1.0]
for (name, alpha), other in students.items():
    same = np.array_equal(first.coef_, other.coef_)
    errors = int((other.predict(images) != labels).sum())
    text = f"the same coefficients: {same}, {errors} errors on the labels"
    print(f"teacher {name:9} alpha {alpha}: {text}")
    assert same
    assert errors == 0
PYTHON
"$folder/env/bin/python" -W ignore "$folder/teacher.py" | tail -n 4
