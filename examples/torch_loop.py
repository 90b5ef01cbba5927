"""A guarded PyTorch loop: a learning rate far too high.

python examples/torch_loop.py
"""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from failguard.torch import FailGuard


def main() -> None:
    torch.manual_seed(0)
    pixels, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels))
    loader = DataLoader(data, batch_size=32, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=100.0)

    with FailGuard(model, optimizer, config={"learning_rate": 100.0}, run_name="rate 100") as guard:
        for _ in range(5):
            for x, y in loader:
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(x), y)
                loss.backward()
                if guard.step(loss=loss, batch=(x, y)):
                    optimizer.step()
                if guard.should_stop:
                    break
            guard.end_epoch()
            if guard.should_stop:
                break
    report = guard.report
    print(report.status, report.root.code, report.diagnosis.likely_cause)
    print(report.diagnosis.causes[0].remedy)


if __name__ == "__main__":
    main()
