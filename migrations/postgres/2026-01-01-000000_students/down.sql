-- The trigger goes with its table.
DROP TABLE students;
DROP FUNCTION students_touch();
