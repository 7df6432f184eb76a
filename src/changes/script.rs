//! Statements in their order, as they are sent and as the database's own client reads them.

use std::fmt;

use crate::database::DatabaseKind;

/// Statements that belong together. Displayed, it is what can be piped into `psql`, `mariadb` or `sqlite3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    kind: DatabaseKind,
    statements: Vec<String>,
}

impl Script {
    /// No statements.
    pub(super) const fn new(kind: DatabaseKind) -> Self {
        Self { kind, statements: Vec::new() }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }

    /// The statements, without what ends them. Where the database can, all are one transaction.
    pub fn statements(&self) -> &[String] {
        &self.statements
    }

    pub(super) fn push(&mut self, statement: impl Into<String>) {
        self.statements.push(statement.into());
    }

    /// Adds the statements of `template`, with `{name}` replaced by what `names` says of it.
    pub(super) fn fill(&mut self, template: &str, names: &[(&str, &str)]) {
        // Parted first: what is filled in may look like an end.
        self.statements.extend(parts(template).iter().map(|part| fill(part, names)));
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, end, after) = match self.kind {
            DatabaseKind::Postgres => ("BEGIN;\n", ";", "COMMIT;\n"),
            DatabaseKind::Sqlite => ("BEGIN IMMEDIATE;\n", ";", "COMMIT;\n"),
            // Statements with others inside need another end than a semicolon.
            DatabaseKind::Mysql => ("DELIMITER $$\n", "$$", "DELIMITER ;\n"),
        };
        if self.is_empty() {
            return Ok(());
        }
        f.write_str(before)?;
        for statement in &self.statements {
            writeln!(f, "{statement}{end}")?;
        }
        f.write_str(after)
    }
}

/// The statements of a template of ours: each ends with a line's last semicolon. A body begins with a line that ends
/// with BEGIN or a dollar quote, and ends with `END;` or the same quote.
fn parts(template: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let (mut part, mut inside) = (String::new(), false);
    for line in template.lines() {
        if !part.is_empty() {
            part.push('\n');
        }
        part.push_str(line);
        let is_quote = line.starts_with('$') && line.ends_with("$;");
        if inside {
            inside = !(line == "END;" || is_quote);
        } else {
            inside = line == "BEGIN" || line.ends_with(" BEGIN") || line.ends_with('$');
        }
        // The body of a PostgreSQL function has an END of its own, without a semicolon behind it.
        if !inside && line.ends_with(';') {
            part.pop();
            parts.push(std::mem::take(&mut part));
        }
    }
    parts
}

/// Replaces each `{name}` once; what is put in is not looked at again.
fn fill(template: &str, names: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, from)) = rest.split_once('{') {
        filled.push_str(before);
        let value = from.split_once('}').and_then(|(name, after)| {
            names.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value, after))
        });
        match value {
            Some((value, after)) => {
                filled.push_str(value);
                rest = after;
            }
            None => {
                filled.push('{');
                rest = from;
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_not_looked_at_again() {
        let names = [("table", "{column};\nEND;"), ("column", "c")];
        assert_eq!(fill("a {table} {column} {other} {", &names), "a {column};\nEND; c {other} {");
        let mut script = Script::new(DatabaseKind::Mysql);
        script.fill("CREATE {table};\nT\nBEGIN\n  x;\n  y;\nEND;\nz;", &names);
        assert_eq!(script.statements(), ["CREATE {column};\nEND;", "T\nBEGIN\n  x;\n  y;\nEND", "z"]);
        assert_eq!(
            script.to_string(),
            "DELIMITER $$\nCREATE {column};\nEND;$$\nT\nBEGIN\n  x;\n  y;\nEND$$\nz$$\nDELIMITER ;\n"
        );
    }

    #[test]
    fn every_template_falls_into_whole_statements() {
        let count = |template| parts(template).len();
        assert_eq!(count(include_str!("sql/postgres_tables.sql")), 4);
        assert_eq!(count(include_str!("sql/postgres_relay.sql")), 6);
        assert_eq!(count(include_str!("sql/postgres_triggers.sql")), 5);
        assert_eq!(count(include_str!("sql/mysql_tables.sql")), 4);
        assert_eq!(count(include_str!("sql/mysql_relay.sql")), 4);
        assert_eq!(count(include_str!("sql/mysql_triggers.sql")), 3);
        assert_eq!(count(include_str!("sql/sqlite_tables.sql")), 3);
        assert_eq!(count(include_str!("sql/sqlite_triggers.sql")), 3);
    }
}
