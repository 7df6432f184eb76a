-- The trigger goes with its table.
DROP TABLE students;
