"""A year of a model's life: its card, and the log of its predictions, to be watched by `ssm watch`."""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from ssm.practice import cards

rng, names, logs = np.random.default_rng(0), ("ill", "well"), []


def patients(number, share, scale=1.0):
    """Two measurements of each, the first times `scale`, and who is ill."""
    ill = rng.random(number) < share
    x = (rng.normal(size=(number, 2)) + np.outer(ill, [2.2, 1.4])) * [scale, 1]
    return x, np.where(ill, "ill", "well")


x, y = patients(11_000, 1 / 11)
model = LogisticRegression(class_weight={"ill": 3, "well": 1}).fit(x, y)
x_held, y_held = patients(22_000, 1 / 11)
table = pd.crosstab(y_held, model.predict(x_held)).to_numpy().tolist()
counts = tuple(int((y == name).sum()) for name in names)
card = cards.Card(
    model=str(model),
    classes=names,
    data=cards.Data("patients of last year", 11_000, counts),
    training=cards.Training((1 / 11, 10 / 11), class_weights=(3, 1)),
    probabilities_for=(3 / 13, 10 / 13),  # by the weights
    performance=cards.Performance(tuple(map(tuple, table))),
)
cards.write_card(card, "card.json", overwrite=True)
for week, day in enumerate(pd.date_range("2026-01-05", periods=52, freq="7D")):
    x, y = patients(2000, 1 / 11 if week < 16 else 1 / 31, 1.0 if week < 35 else 0.6)
    p = model.predict_proba(x).round(5)
    log = pd.DataFrame({"time": day, "p_ill": p[:, 0], "p_well": p[:, 1], "label": y})
    logs.append(log.join(pd.DataFrame(x.round(3), columns=["feature_blood", "feature_age"])))
year = pd.concat(logs, ignore_index=True).rename_axis("id").reset_index()
year.to_csv("year.csv", index=False)
year[:60_000].to_csv("log.csv", index=False)  # its first 30 weeks
