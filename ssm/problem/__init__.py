"""The problem that is learned and the loss that is minimised: counts and labels, class weights, losses, schedules, corrections."""

from ssm.problem.problem import Problem, make_problem, membership, simplex_labels

__all__ = ["Problem", "make_problem", "membership", "simplex_labels"]
