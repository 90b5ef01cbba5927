"""Two attempts at one thing: the first fails and says why, the second learns from it.

python examples/experiments.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import failguard
from failguard.runs import ExperimentRecord

manager = failguard.ExperimentManager("digits")


def train(config: dict) -> dict:
    pixels, labels = load_digits(return_X_y=True)
    pixels[::50, 20] = np.nan  # a sensor that is out now and then
    if config["fill"] is not None:
        pixels = np.nan_to_num(pixels, nan=config["fill"])
    model = LogisticRegression(C=config["c"], max_iter=200).fit(pixels[:1400] / 16, labels[:1400])
    return {"accuracy": model.score(pixels[1400:] / 16, labels[1400:])}


def main() -> None:
    first = manager.run_experiment(
        "plain", "a linear model is enough", {"c": 1.0, "fill": None}, train, line="linear", seed=0
    )
    print(first["status"], first["learnings"]["likely_cause"])
    second = manager.run_experiment(
        "filled",
        "a linear model is enough once gaps are filled",
        {"c": 1.0, "fill": 0.0},
        train,
        line="linear",
        parent=first.run_id,
        seed=0,
    )
    print(second["status"], f"accuracy {second['metrics']['accuracy']:.2f}")
    print(ExperimentRecord.from_report(second.report).to_markdown())


if __name__ == "__main__":
    main()
