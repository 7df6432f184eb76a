//! As much of Rust's lexis as the rules need: tokens, and what is comment, literal or test code.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// An identifier, `::`, or one other character.
    pub(super) text: &'a str,
    pub(super) line: usize,
}

pub(super) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_part = |char: char| char.is_alphanumeric() || char == '_';
            let length = match first {
                _ if is_part(first) => rest.find(|char| !is_part(char)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                _ => first.len_utf8(),
            };
            let (text, after) = rest.split_at(length);
            tokens.push(Token { text, line: index + 1 });
            rest = after.trim_start();
        }
    }
    tokens
}

/// Blanks out a part of a text, and keeps its lines.
fn blank(text: &mut String, part: std::ops::Range<usize>) {
    let blanks: String =
        text[part.clone()].chars().map(|char| if char == '\n' { '\n' } else { ' ' }).collect();
    text.replace_range(part, &blanks);
}

/// The text with comments, strings and characters blanked out. Lines stay where they are.
pub(super) fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let in_name = code.ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest, '"'),
            // A character, unless it is a lifetime.
            '\'' if rest[1..].starts_with('\\') || rest[1..].chars().nth(1) == Some('\'') => {
                quoted(rest, '\'')
            }
            'r' | 'b' | 'c' if !in_name => raw_string(rest),
            _ => 0,
        };
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let mut literal = rest[..length].to_owned();
            blank(&mut literal, 0..length);
            code.push_str(&literal);
            rest = &rest[length..];
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a literal that ends with `mark`, in which `\` escapes.
fn quoted(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if char == mark => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw string, `r"…"` or `br#"…"#`; 0 if there is none.
fn raw_string(text: &str) -> usize {
    let opening = text.trim_start_matches(['b', 'c']);
    let Some(after) = opening.strip_prefix('r').filter(|_| text.len() - opening.len() <= 1) else { return 0 };
    let inner = after.trim_start_matches('#');
    if !inner.starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(after.len() - inner.len()));
    let start = text.len() - inner.len() + 1;
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// The code without the items that are compiled for tests only.
pub(super) fn without_tests(code: &str) -> String {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut product = code.to_owned();
    let mut from = 0;
    while let Some(at) = product[from..].find(ATTRIBUTE) {
        let start = from + at;
        let mut depth = 0_usize;
        let end = product[start + ATTRIBUTE.len()..].char_indices().find_map(|(at, char)| {
            match char {
                '{' | '(' | '[' => depth += 1,
                // The end of what is around the item: a field, perhaps, without a comma.
                '}' | ')' | ']' if depth == 0 => return Some(at),
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            (depth == 0 && matches!(char, '}' | ';' | ',')).then_some(at + 1)
        });
        from = end.map_or(product.len(), |end| start + ATTRIBUTE.len() + end);
        blank(&mut product, start..from);
    }
    product
}
