"""A guarded Keras run: a large network memorises few images with wrong labels among them.

python examples/keras_digits.py
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

from failguard.keras import FailGuard


def main() -> None:
    keras.utils.set_random_seed(0)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    rng = np.random.default_rng(0)
    few = rng.permutation(len(x))
    train, validation = few[:300], few[300:]
    y_train = y[train].copy()
    y_train[:120] = rng.integers(0, 10, 120)

    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(512, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    guard = FailGuard(monitor="val_loss", patience=12, run_name="few images, wrong labels")
    model.fit(
        x[train],
        y_train,
        validation_data=(x[validation], y[validation]),
        epochs=60,
        verbose=2,
        callbacks=[guard],
    )
    report = guard.report
    print(report.status, report.root.code, "best epoch", report.best["epoch"])


if __name__ == "__main__":
    main()
