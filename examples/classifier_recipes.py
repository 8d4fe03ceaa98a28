"""One network, five recipes: what decides, what probabilities are for, and which weights and margins train it."""

from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssm import ReweightedClassifier
from ssm.practice import datasets
from ssm.problem.schedules import CappedUnitMean, Chain, PrevalencePower

# margins that are larger for rarer classes
margins = {"loss": "ldam", "logit_scale": 1.0, "largest_margin": 3.0}
mild = Chain(PrevalencePower(0.5), CappedUnitMean(0.2, 5.0))  # weights 1 / sqrt(n), within bounds
guarded = {"early_stopping": True, "alarm_action": "roll_back", "temperature_scaling": True}
weighted = {**margins, "schedule": mild, "decision": "uniform", **guarded}
recipes = {
    "plain ERM": {},
    "every class counts alike": {"decision": "uniform"},
    "probabilities where classes are equally frequent": {"shares": "uniform"},
    "margins": {**margins, "decision": "uniform", "shares": "training"},
    "margins, weights, stopped early": weighted,
}
digits = datasets.imbalanced(datasets.load("digits"), imbalance_ratio=10, seed=0)
split = train_test_split(digits.features, digits.labels, stratify=digits.labels, random_state=0)
for name, parameters in recipes.items():
    classifier = ReweightedClassifier(**parameters, random_state=0)
    pipeline = make_pipeline(StandardScaler(), classifier).fit(split[0], split[2])
    score = balanced_accuracy_score(split[3], pipeline.predict(split[1]))
    print(f"{name}: balanced accuracy {score:.3f}, kept step {classifier.best_step_}")
print("recalls of the last on its own held-out part:", classifier.history_.class_recall[-1].values)
searched = {"reweightedclassifier__schedule__prevalencepower__exponent": [0.0, 0.5, 1.0]}
GridSearchCV(pipeline, searched, scoring="balanced_accuracy", cv=3)  # .fit(split[0], split[2])
