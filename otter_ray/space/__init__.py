"""Search spaces: which values trials may try, and how to search. Imports neither torch, ray nor optuna."""

from otter_ray.space.compatibility import check_space, idle_parameters
from otter_ray.space.constraint import MODEL_STATS, Constraint
from otter_ray.space.parameter import Parameter
from otter_ray.space.parser import entries_of, load_space, space_of, space_with_sets
from otter_ray.space.problem import Branch, SearchProblem
from otter_ray.space.space import Space, space_to_yaml
from otter_ray.space.study_options import StudyOptions

__all__ = [
    "MODEL_STATS",
    "Branch",
    "Constraint",
    "Parameter",
    "SearchProblem",
    "Space",
    "StudyOptions",
    "check_space",
    "entries_of",
    "idle_parameters",
    "load_space",
    "space_of",
    "space_to_yaml",
    "space_with_sets",
]
