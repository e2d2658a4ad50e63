import pytest

from mia_daemon.errors import UsageError
from mia_daemon.features import catalogue
from mia_daemon.features.shap_weighting import select

NAMES = [feature.name for feature in catalogue.FEATURES]


def rows(names, values=None):
    values = values or range(len(names), 0, -1)
    return ["feature,shap_value", *(f"{name},{value}" for name, value in zip(names, values, strict=True))]


def selected(lines, *n):
    return select(("\n".join(lines) + "\n").encode(), "feature_importance.csv", *n)


def test_it_takes_the_first_ones_in_the_files_order():
    shuffled = NAMES[200:] + NAMES[:200]
    assert selected(rows(shuffled)) == shuffled[:150]
    assert selected(rows(shuffled), 3) == shuffled[:3]


def test_further_columns_and_equal_values_are_fine():
    lines = ["rank,feature,shap_value", "1,l1_imb,0.5", "2,atr_14,0.5", "3,delta_1s,0"]
    assert selected(lines, 3) == ["l1_imb", "atr_14", "delta_1s"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (rows(["l1_imb", "no_such"]), "line 3: no feature is called 'no_such'"),
        (rows(["l1_imb", "atr_14", "l1_imb"]), "line 4: l1_imb is named a second time"),
        (rows(["l1_imb", "atr_14"], ["nan", "1"]), "line 2: shap_value nan must be finite"),
        (rows(["l1_imb", "atr_14"], ["1", "-0.1"]), "line 3: shap_value -0.1 must be finite and not negative"),
        (rows(["l1_imb", "atr_14"], ["1", "high"]), "line 3: shap_value high is not a number"),
        (rows(["l1_imb", "atr_14"], ["1", "2"]), "line 3: shap_value 2 is above the row before"),
        (["feature,shap_value", "l1_imb"], "line 2: shap_value missing is not a number"),
        (["feature,shap_value", ",1"], "line 2: the feature's name is missing"),
        (["name,shap_value", "l1_imb,1"], "line 1: no column feature"),
        ([""], "line 1: no column feature, shap_value"),
        (rows(["l1_imb", "atr_14"]), "names 2 features, 150 are needed"),
    ],
)
def test_a_bad_file_is_refused_with_the_line(lines, says):
    with pytest.raises(UsageError, match=says) as refused:
        selected(lines)
    assert "feature_importance.csv" in str(refused.value)


def test_a_binary_file_is_refused():
    with pytest.raises(UsageError, match="not a UTF-8 CSV file"):
        select(b"\xff\xfe\x00\x81", "feature_importance.csv")
