-- The demo's table: one row is one student, cached by name. The collation is binary, so that names are told apart
-- by their bytes; a BLOB or TEXT key would need a length for its index.
CREATE TABLE students (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL UNIQUE CHECK (name <> ''),
    score BIGINT NOT NULL,
    created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)
);

INSERT INTO students (name, score) VALUES ('张三', 333), ('李四', 444), ('王五', 555);
