"""A search with Optuna in which every trial is an experiment, and doomed trials are pruned by what the guard found.

python examples/optuna_search.py
"""

import optuna
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import failguard
from failguard.torch import FailGuard

manager = failguard.ExperimentManager("digits search")


def train(config: dict) -> dict:
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    loader = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=32, shuffle=True)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=config["learning_rate"])
    with FailGuard(model, optimizer, patience=2) as guard:
        for _ in range(5):
            for batch in loader:
                optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
                loss.backward()
                if guard.step(loss=loss, batch=batch):
                    optimizer.step()
                if guard.should_stop:
                    break
            with torch.no_grad():
                output = model(x[1400:])
            guard.end_epoch(val_loss=torch.nn.functional.cross_entropy(output, y[1400:]))
            if guard.should_stop:
                break
    return {"accuracy": (output.argmax(1) == y[1400:]).float().mean()}


def objective(trial: optuna.Trial) -> float:
    config = {"learning_rate": trial.suggest_float("learning_rate", 1e-2, 1e3, log=True)}
    result = manager.run_experiment(f"trial {trial.number}", "a rate of its own", config, train, seed=0)
    if result["status"] == "failed":  # it raised, or the guard stopped it
        raise optuna.TrialPruned(result["learnings"]["likely_cause"])
    return float(result["metrics"]["accuracy"])


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial({"learning_rate": 0.1})
    study.enqueue_trial({"learning_rate": 500.0})
    study.optimize(objective, n_trials=3)
    for trial in study.trials:
        print(f"{trial.state.name.lower():<9}rate {trial.params['learning_rate']:.3g}", trial.value or "")
    print(f"best: rate {study.best_params['learning_rate']:.3g}, accuracy {study.best_value:.2f}")


if __name__ == "__main__":
    main()
