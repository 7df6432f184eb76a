//! What the configuration says of a group's table.

/// The table behind a group: one row is one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// The name of a `[database.NAME]` section.
    pub database: String,
    /// The table's name, quoted in every statement and never interpreted.
    pub table: String,
    /// The column that holds the key: text, integer or bytes.
    pub key_column: String,
    /// The columns that make the value: one is its own text or bytes, several are a JSON object.
    pub value_columns: Vec<String>,
    /// Whether clients may write rows through the group. The table must be in a log of changes.
    pub writable: bool,
}
