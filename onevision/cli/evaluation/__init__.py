"""The commands that say how good a model is: eval, judge, scienceqa, report, probe."""
