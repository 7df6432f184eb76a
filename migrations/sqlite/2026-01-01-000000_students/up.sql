-- The demo's table: one row is one student, cached by name.
CREATE TABLE students (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE CHECK (name <> ''),
    score INTEGER NOT NULL CHECK (typeof(score) = 'integer'),
    created_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);

-- Only what a person changes touches the time, so that the trigger does not set itself off.
CREATE TRIGGER students_touch AFTER UPDATE OF name, score ON students
BEGIN
    UPDATE students SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id;
END;

INSERT INTO students (name, score) VALUES ('张三', 333), ('李四', 444), ('王五', 555);
