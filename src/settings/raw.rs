//! A value as its source gave it, and what it says when a key expects a certain type.
//!
//! A file gives typed values; a variable or a flag gives text, which is read as what the key expects. Each
//! conversion fails with a message that shows the value and says what would be right.

use toml::Value;

/// A value before anybody has said what it should be.
#[derive(Clone)]
pub(super) enum Raw {
    /// From a file.
    Toml(Value),
    /// From a variable or a flag.
    Text(String),
}

/// How many characters of a wrong value a message shows.
const CHARS_SHOWN: usize = 60;

/// `text` in quotes, escaped, and cut if it is long.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(CHARS_SHOWN) {
        Some((end, _)) => format!("\"{}…\"", text[..end].escape_debug()),
        None => format!("\"{}\"", text.escape_debug()),
    }
}

impl Raw {
    /// The text of a string.
    pub(super) fn text(&self) -> Result<&str, String> {
        match self {
            Self::Toml(Value::String(text)) | Self::Text(text) => Ok(text),
            Self::Toml(other) => match plain(other) {
                Some(plain) => Err(format!("{} is not a string; write \"{plain}\"", show(other))),
                None => Err(format!("{} is not a string; write it in quotes", show(other))),
            },
        }
    }

    /// The text of a string, with messages that never show it.
    pub(super) fn secret(&self) -> Result<&str, String> {
        self.text().map_err(|_| "the value is not a string; write it in quotes".to_owned())
    }

    /// The text of a value that takes a unit. A number without one is passed on as text, so that the
    /// reader of the unit can say what is missing.
    pub(super) fn with_unit(&self, example: &str) -> Result<String, String> {
        match self {
            Self::Toml(Value::String(text)) | Self::Text(text) => Ok(text.clone()),
            Self::Toml(Value::Integer(number)) => Ok(number.to_string()),
            Self::Toml(Value::Float(number)) => Ok(number.to_string()),
            Self::Toml(other) => {
                Err(format!("{} is not right here; write for example \"{example}\"", show(other)))
            }
        }
    }

    /// A whole number.
    pub(super) fn integer(&self) -> Result<i128, String> {
        match self {
            Self::Toml(Value::Integer(number)) => Ok(i128::from(*number)),
            Self::Text(text) => {
                text.trim().parse().map_err(|_| format!("{} is not a whole number", quote(text)))
            }
            Self::Toml(other) => Err(format!("{} is not a whole number", show(other))),
        }
    }

    /// A number, with a fraction or without.
    pub(super) fn float(&self) -> Result<f64, String> {
        let number = match self {
            Self::Toml(Value::Float(number)) => Some(*number),
            // Whole numbers that large are far out of any range, so rounding harms nobody.
            Self::Toml(Value::Integer(number)) => Some(*number as f64),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Toml(_) => None,
        };
        number.filter(|number| number.is_finite()).ok_or_else(|| format!("{} is not a number", self.show()))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, String> {
        let value = match self {
            Self::Toml(Value::Boolean(value)) => Some(*value),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Toml(_) => None,
        };
        value.ok_or_else(|| format!("{} is neither true nor false; write one of them", self.show()))
    }

    /// A list of strings. Text is either a TOML array or separated by commas; empty text is an empty list.
    pub(super) fn strings(&self) -> Result<Vec<String>, String> {
        let wrong = || format!("{} is not a list of strings; write [\"a\", \"b\"]", self.show());
        match self {
            Self::Toml(Value::Array(items)) => {
                items.iter().map(string).collect::<Option<_>>().ok_or_else(wrong)
            }
            Self::Toml(_) => Err(wrong()),
            Self::Text(text) => {
                let text = text.trim();
                // An IPv6 address in brackets is not an array, hence the look at both ends.
                if text.starts_with('[') && text.ends_with(']') {
                    return match text.parse() {
                        Ok(Value::Array(items)) => {
                            items.iter().map(string).collect::<Option<_>>().ok_or_else(wrong)
                        }
                        _ => Err(format!("{} is not a list; write [\"a\", \"b\"] or a,b", quote(text))),
                    };
                }
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Ok(items.map(str::to_owned).collect())
            }
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Toml(value) => show(value),
            Self::Text(text) => quote(text),
        }
    }
}

fn string(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A scalar as it was probably written, if it is one.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Datetime(time) => Some(time.to_string()),
        Value::String(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// A value as a message shows it: the inside of lists and tables is left out.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        scalar => plain(scalar).unwrap_or_default(),
    }
}
