//! The rules. Each looks at one file's tokens; the tables that they follow stand in `tests/tidy.rs`.

use std::fmt;

use super::{
    super::{
        CODE_LINES_MAX, CRATE_OWNERS, LAYERS, LONG_FILES, NOT_HERE, PRINTING, PUBLIC_MODULES, UNFINISHED,
    },
    lexer::{Token, tokens, without_comments_and_literals, without_tests},
};

#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// One file, ready to be looked at.
pub(crate) struct Source<'a> {
    /// Relative to the crate, with `/`.
    pub(crate) path: &'a str,
    pub(crate) text: &'a str,
    /// The text with comments and literals blanked out.
    pub(crate) code: String,
    /// As `code`, with test code blanked out too.
    pub(crate) product: String,
}

impl<'a> Source<'a> {
    pub(crate) fn new(path: &'a str, text: &'a str) -> Self {
        let code = without_comments_and_literals(text);
        let product = without_tests(&code);
        Self { path, text, code, product }
    }

    /// The top-level module that the file is part of: `group` for `src/group.rs` and all in `src/group/`.
    pub(crate) fn module(&self) -> &str {
        let inner = self.path.trim_start_matches("src/");
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }

    /// How many `super` lead from the file's module to the crate's root.
    pub(crate) fn depth(&self) -> usize {
        self.path.matches('/').count()
    }

    pub(crate) fn is_root(&self) -> bool {
        matches!(self.path, "src/lib.rs" | "src/main.rs")
    }
}

/// All faults of all files, whose paths are relative to the crate.
pub(crate) fn check(files: &[(String, String)]) -> Vec<Fault> {
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    let test_files: Vec<_> = sources.iter().flat_map(test_modules).collect();
    let is_test = |path: &str| {
        test_files.iter().any(|stem| {
            path.strip_prefix(stem.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    };
    let mut faults = Vec::new();
    for source in &sources {
        let mut fault = |line, text| faults.push(Fault { path: source.path.to_owned(), line, text });
        check_every_file(source, &mut fault);
        if !source.path.starts_with("src/") {
            continue;
        }
        check_modules(source, &mut fault);
        if !is_test(source.path) {
            let tokens = tokens(&source.product);
            check_layers(source, &tokens, &mut fault);
            check_crates(source, &tokens, &mut fault);
            check_habits(source, &tokens, &mut fault);
            check_length(source, &mut fault);
        }
    }
    faults
}

/// Rules for tests, benchmarks and examples too.
fn check_every_file(source: &Source<'_>, fault: &mut impl FnMut(usize, String)) {
    if !source.text.starts_with("//! ") {
        fault(1, "the first line is not `//! …`; say there what the file is for".to_owned());
    }
    if source.path.ends_with("/mod.rs") {
        fault(1, "a module `foo` stands in foo.rs beside foo/, not in foo/mod.rs".to_owned());
    }
    let tokens = tokens(&source.code);
    for (at, token) in tokens.iter().enumerate() {
        if token.text == "allow" && at > 0 && tokens[at - 1].text == "[" && follows(&tokens, at, &["("]) {
            let right =
                "`#[allow(…)]` stays when it is needed no longer; write `#[expect(…, reason = \"…\")]`";
            fault(token.line, right.to_owned());
        }
    }
}

/// Which module may be public.
fn check_modules(source: &Source<'_>, fault: &mut impl FnMut(usize, String)) {
    let tokens = tokens(&source.product);
    for (at, token) in tokens.iter().enumerate() {
        if token.text != "pub" || !follows(&tokens, at, &["mod"]) || source.path == "src/lib.rs" {
            continue;
        }
        let name = tokens.get(at + 2).map_or("", |name| name.text);
        if !PUBLIC_MODULES.contains(&(source.path, name)) {
            let right =
                format!("the module `{name}` is public; make it private and re-export its items by name");
            fault(token.line, right);
        }
    }
}

/// Which other top-level modules a file names.
fn check_layers(source: &Source<'_>, tokens: &[Token<'_>], fault: &mut impl FnMut(usize, String)) {
    if source.path == "src/main.rs" {
        for (at, token) in tokens.iter().enumerate() {
            if token.text == "ggcache" && !follows(tokens, at, &["::", "cli"]) {
                fault(token.line, "main only calls `ggcache::cli`".to_owned());
            }
        }
    }
    if source.is_root() {
        return;
    }
    let module = source.module();
    let Some((_, may_name)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        fault(1, format!("the module `{module}` is not in the table of layers; give it a place there"));
        return;
    };
    for named in named_modules(tokens) {
        if named.text != module && !may_name.iter().any(|row| row.contains(&named.text)) {
            let rows = may_name.concat();
            let right = if rows.is_empty() { "none".to_owned() } else { rows.join(", ") };
            fault(named.line, format!("`{module}` must not name `{}`; it may name: {right}", named.text));
        }
    }
    for (at, token) in tokens.iter().enumerate() {
        if token.text != "super" || (at > 0 && tokens[at - 1].text == "::") {
            continue;
        }
        let steps = (at..).step_by(2).take_while(|at| follows_super(tokens, *at)).count();
        if steps >= source.depth() {
            fault(
                token.line,
                "`super` leaves the layer here; write `crate::…`, so that it is seen".to_owned(),
            );
        }
    }
}

/// Which crates a file names.
fn check_crates(source: &Source<'_>, tokens: &[Token<'_>], fault: &mut impl FnMut(usize, String)) {
    let module = source.module();
    for (at, token) in tokens.iter().enumerate() {
        let owners = CRATE_OWNERS.iter().find(|(name, _)| *name == token.text);
        if let Some((name, owners)) = owners
            && names_crate(tokens, at)
            && !owners.contains(&module)
            && source.path != "src/main.rs"
        {
            fault(token.line, format!("the crate `{name}` belongs into {} only", owners.join(" and ")));
        }
        for (_, names, why) in NOT_HERE.iter().filter(|(place, ..)| *place == module) {
            let is_type = token.text.starts_with(|first: char| first.is_ascii_uppercase());
            if names.contains(&token.text) && (is_type || names_crate(tokens, at)) {
                fault(token.line, format!("`{module}` must not name `{}`: {why}", token.text));
            }
        }
    }
}

/// What product code does not do.
fn check_habits(source: &Source<'_>, tokens: &[Token<'_>], fault: &mut impl FnMut(usize, String)) {
    for (at, token) in tokens.iter().enumerate() {
        if token.text == "::" && follows(tokens, at, &["*"]) {
            fault(token.line, "a glob import hides where names come from; import by name".to_owned());
        }
        if !follows(tokens, at, &["!"]) {
            continue;
        }
        if PRINTING.contains(&token.text) {
            let right = format!(
                "`{}!` panics when nobody reads; log by `tracing`, or in app and cli write to the stream",
                token.text
            );
            fault(token.line, right);
        }
        if UNFINISHED.contains(&token.text) {
            fault(token.line, format!("`{}!` is unfinished; leave out what is not there yet", token.text));
        }
    }
    debug_assert!(source.path.starts_with("src/"));
}

fn check_length(source: &Source<'_>, fault: &mut impl FnMut(usize, String)) {
    let lines = source.product.lines().filter(|line| !line.trim().is_empty()).count();
    if lines > CODE_LINES_MAX && !LONG_FILES.iter().any(|(path, _)| *path == source.path) {
        let right = format!("{lines} lines of code are more than {CODE_LINES_MAX}; look for the second idea");
        fault(1, right);
    }
}

/// The first segment of each path that begins with `crate::`, those in braces included.
fn named_modules<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut named = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let in_macro = at > 0 && tokens[at - 1].text == "$";
        if token.text != "crate" || in_macro || !follows(tokens, at, &["::"]) {
            continue;
        }
        let Some(first) = tokens.get(at + 2) else { continue };
        if first.text != "{" {
            named.push(*first);
            continue;
        }
        let mut depth = 0_usize;
        for (at, token) in tokens.iter().enumerate().skip(at + 2) {
            match token.text {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ if depth == 1 && matches!(tokens[at - 1].text, "{" | ",") => named.push(*token),
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    named
}

/// Whether the identifier at `at` is a crate: the first segment of a path, or all of a `use`.
fn names_crate(tokens: &[Token<'_>], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at].text);
    let is_name =
        |text: &str| text.starts_with(|first: char| first.is_alphanumeric() || "_>".contains(first));
    let inside_a_path = before(1) == "::" && is_name(before(2)) && !is_keyword(before(2));
    let declared = matches!(before(1), "mod" | "fn" | "struct" | "enum" | "let" | ".");
    let whole = matches!(before(1), "use" | "crate");
    !inside_a_path && !declared && (whole || follows(tokens, at, &["::"]))
}

fn is_keyword(text: &str) -> bool {
    matches!(text, "use" | "as" | "in" | "return" | "else" | "match" | "if" | "move" | "await")
}

/// Whether these come after the token at `at`.
fn follows(tokens: &[Token<'_>], at: usize, texts: &[&str]) -> bool {
    let after = tokens.get(at + 1..at + 1 + texts.len());
    after.is_some_and(|after| after.iter().map(|token| token.text).eq(texts.iter().copied()))
}

fn follows_super(tokens: &[Token<'_>], at: usize) -> bool {
    tokens.get(at).is_some_and(|token| token.text == "super") && follows(tokens, at, &["::"])
}

/// The files, without `.rs`, of the modules that a file declares for tests only.
fn test_modules(source: &Source<'_>) -> Vec<String> {
    let tokens = tokens(&source.code);
    let folder = match source.path {
        "src/lib.rs" | "src/main.rs" => "src",
        path => path.trim_end_matches(".rs"),
    };
    let attribute = ["[", "cfg", "(", "test", ")", "]", "mod"];
    (0..tokens.len())
        .filter(|at| tokens[*at].text == "#" && follows(&tokens, *at, &attribute))
        .filter(|at| tokens.get(at + 9).is_some_and(|token| token.text == ";"))
        .map(|at| format!("{folder}/{}", tokens[at + 8].text))
        .collect()
}
