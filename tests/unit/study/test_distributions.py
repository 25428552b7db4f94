"""Parameters as Optuna's distributions, and back."""

import optuna
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.distributions import distribution_to_json, json_to_distribution

from otter_ray.space import Parameter, load_space, space_to_yaml
from otter_ray.study.distributions import space_of, to_distribution, to_parameter

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@st.composite
def numbers(draw):
    """A range that a search space may hold."""
    kind = draw(st.sampled_from(["int", "float"]))
    log = draw(st.booleans())
    values = st.integers(1 if log else -1000, 1000)
    low, high = sorted((draw(values), draw(values)))
    step = None if log else draw(st.none() | st.integers(1, 50))
    if kind == "float":
        low, high, step = low / 100, high / 100, step and step / 100
    assume(step is None or step <= high - low)
    return Parameter("x", ("a.b", "c"), kind, low, high, step, log)


categoricals = st.lists(scalars, min_size=1, max_size=5, unique_by=lambda value: value).map(
    lambda choices: Parameter("x", ("x",), "categorical", choices=tuple(choices))
)


@given(parameter=numbers() | categoricals)
def test_a_distribution_is_what_the_trial_keeps_and_comes_back(parameter):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    value = parameter.suggest(trial)
    kept = to_distribution(parameter)
    assert kept == trial.distributions["x"]
    read = json_to_distribution(distribution_to_json(kept))
    again = to_parameter("x", read)
    assert to_distribution(again) == kept
    assert again.contains(value)
    assert (again.type, again.log, again.corners()) == (parameter.type, parameter.log, parameter.corners())


def test_the_space_of_an_optuna_study_can_be_searched_on(tmp_path):
    study = optuna.create_study(direction="minimize")
    for index in range(3):
        trial = study.ask()
        trial.suggest_float("optimizer.options.lr", 1e-4, 1e-2, log=True)
        if trial.suggest_categorical("model.loss.name", ["CosFace", "ArcFace"]) and index:
            trial.suggest_int("model.loss.options.s", 8, 32, step=8)
    (tmp_path / "space.yaml").write_text(space_to_yaml(space_of(study)))
    space = load_space(str(tmp_path / "space.yaml"))
    assert [str(parameter) for parameter in space.parameters] == [
        "optimizer.options.lr: float 0.0001 to 0.01, log",
        "model.loss.name: one of CosFace, ArcFace",
        "model.loss.options.s: int 8 to 32, step 8",
    ]
    assert space.study.mode == "min"
