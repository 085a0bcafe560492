"""From predictions to numbers: join, judge, intervals, paired tests."""
