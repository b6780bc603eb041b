"""Loads pulled weights in plain PyTorch and compares its predictions with the coordinator's.

usage: check_pytorch.py DIR ANSWERS.json

DIR holds model.safetensors of the iris demo: a perceptron of 4 inputs, 128 hidden units and 3 classes.
ANSWERS.json holds {"rows": [[4 numbers], ...], "probabilities": [[3 numbers], ...]}: what the
coordinator was asked and what it answered.
"""

import json
import pathlib
import sys

import safetensors.torch
import torch
from torch import nn

TOLERANCE = 1e-5


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 128)
        self.fc2 = nn.Linear(128, 3)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    weights = pathlib.Path(sys.argv[1]) / "model.safetensors"
    answers = json.loads(pathlib.Path(sys.argv[2]).read_text())
    rows = torch.tensor(answers["rows"], dtype=torch.float32)
    theirs = torch.tensor(answers["probabilities"], dtype=torch.float32)

    net = Net()
    net.load_state_dict(safetensors.torch.load_file(str(weights)))
    with torch.no_grad():
        ours = torch.softmax(net(rows), dim=1)

    if len(rows) == 0 or ours.shape != theirs.shape:
        sys.exit(f"FAILED: {tuple(theirs.shape)} probabilities for {tuple(rows.shape)} rows, expected {tuple(ours.shape)}")
    worst = (ours - theirs).abs().max().item()
    # Written so that NaN fails too.
    if not worst <= TOLERANCE:
        sys.exit(f"FAILED: PyTorch and the coordinator differ by {worst:.3g}, at most {TOLERANCE} is allowed")
    print(f"PyTorch {torch.__version__}: {len(rows)} rows, the largest difference is {worst:.3g}")


if __name__ == "__main__":
    main()
