//! A key's full name: the path from the top of the document to one value.

use std::fmt;

/// The variables that are settings start with this.
pub(super) const ENV_PREFIX: &str = "GGCACHE__";
/// What separates the segments of a key in a variable's name.
pub(super) const ENV_SEPARATOR: &str = "__";
/// A name longer than this is cut in messages.
const SEGMENT_CHARS_SHOWN: usize = 80;

/// The segments of a key, outermost first; empty for the document itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath(Vec<String>);

impl KeyPath {
    /// The key with these segments.
    pub fn new<S: Into<String>>(segments: impl IntoIterator<Item = S>) -> Self {
        Self(segments.into_iter().map(Into::into).collect())
    }

    /// Splits `dotted` at its dots. `None` if a segment is empty. Quoted segments are not understood: no
    /// valid name needs quotes.
    pub fn parse(dotted: &str) -> Option<Self> {
        let segments: Vec<&str> = dotted.trim().split('.').map(str::trim).collect();
        segments.iter().all(|segment| !segment.is_empty()).then(|| Self::new(segments))
    }

    /// The key `name` inside the table that this path names.
    pub fn child(&self, name: &str) -> Self {
        let mut segments = self.0.clone();
        segments.push(name.to_owned());
        Self(segments)
    }

    /// This path's first `count` segments.
    pub(super) fn prefix(&self, count: usize) -> Self {
        Self(self.0.iter().take(count).cloned().collect())
    }

    /// The table that holds this key; the document for a key at the top, and for the document itself.
    pub(super) fn parent(&self) -> Self {
        self.prefix(self.0.len().saturating_sub(1))
    }

    /// Whether this is a key that `pattern` means: dotted, and `*` is any one segment.
    pub fn matches(&self, pattern: &str) -> bool {
        let parts: Vec<&str> = pattern.split('.').collect();
        self.0.len() == parts.len()
            && self.0.iter().zip(parts).all(|(segment, part)| part == "*" || segment == part)
    }

    /// The segments, outermost first.
    pub fn segments(&self) -> &[String] {
        &self.0
    }

    /// The innermost segment; empty for the document itself.
    pub(super) fn name(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// The segments below `table`, if this path lies inside it.
    pub(super) fn below(&self, table: &Self) -> Option<&[String]> {
        self.0.strip_prefix(table.0.as_slice()).filter(|rest| !rest.is_empty())
    }

    /// What the name of this key's variable has after the prefix: `GROUP__SCORES__TTL`.
    pub(super) fn env_suffix(&self) -> String {
        self.0.join(ENV_SEPARATOR).to_uppercase()
    }
}

/// Dotted; a segment that needs quotes has them, and a very long one is cut.
impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '*';
            if !segment.is_empty() && segment.len() <= SEGMENT_CHARS_SHOWN && segment.chars().all(bare) {
                f.write_str(segment)?;
            } else {
                f.write_str(&super::raw::quote(segment))?;
            }
        }
        Ok(())
    }
}
