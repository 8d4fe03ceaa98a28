"""After the alarm: a new model from labelled rows since the change, its card, and the log of its first weeks."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from ssm.practice import cards

found = json.loads(Path("page/watch.json").read_text())
classes, weights = found["classes"], found["advice"]["now"]["balanced_weights"]
since = next(alarm["since"] for alarm in found["alarms"] if alarm["metric"] == "recall")
log, names = pd.read_csv("log.csv"), ["feature_blood", "feature_age"]
log = log[log["time"] >= since].sample(frac=1, random_state=0)
train, held = log[: len(log) // 2], log[len(log) // 2 :]
model = LogisticRegression(class_weight=dict(zip(classes, weights, strict=True)))
model.fit(train[names], train["label"])
table = pd.crosstab(held["label"], model.predict(held[names])).to_numpy().tolist()
counts = np.array([(train["label"] == name).sum() for name in classes])
weighted = counts * weights / (counts * weights).sum()
card = cards.Card(
    model="logistic regression on blood and age",
    classes=tuple(classes),
    data=cards.Data(f"patients since {since}", len(train), tuple(counts.tolist())),
    training=cards.Training(tuple((counts / len(train)).tolist()), tuple(weights)),
    probabilities_for=tuple(weighted.tolist()),
    performance=cards.Performance(tuple(map(tuple, table))),
)
cards.write_card(card, "next.json", overwrite=True)
rng, days = np.random.default_rng(1), pd.date_range("2027-01-04", periods=8, freq="7D")
ill = rng.random(16_000) < 1 / 31
x = (rng.normal(size=(16_000, 2)) + np.outer(ill, [2.2, 1.4])) * [0.6, 1]
new = pd.DataFrame(x, columns=names)
new[["p_ill", "p_well"]] = model.predict_proba(new).round(5)
new["time"], new["label"] = np.repeat(days, 2000), np.where(ill, "ill", "well")
new.to_csv("next.csv", index_label="id")
