//! The mechanism, on keys that exist only here.

use std::{ffi::OsString, io::Write, path::Path, time::Duration};

use proptest::prelude::*;

use super::{Checks, Effective, FILE_BYTES_MAX, Faults, KeyPath, Section, Settings, Source};

fn settings(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::new();
    settings.add_text("test.toml", text).expect("the test's file is TOML");
    settings.add_env(env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    for (key, value) in flags {
        settings.add_flag(key, value, "--set");
    }
    settings
}

/// Every kind of value, in one section.
fn read_all(section: &mut Section<'_>) {
    section.duration("duration", Duration::from_secs(1));
    section.bytes("bytes", 1024);
    section.integer("integer", 5_u32, 1..=10);
    section.float("float", 0.5, 0.0..=1.0);
    section.bool("bool", false);
    section.string("string", "text");
    section.optional_string("optional");
    section.strings("strings", &["a"]);
    section.choice("choice", 'a', &["a", "b"]);
    section.choice("policy", "lru".to_owned(), &["fifo", "lru", "lfu"]);
    section.parsed("parsed", 1_u8, "a small number; write for example \"1\"");
    section.parsed_list("parsed_list", vec![1_u8], "a small number; write for example \"1\"");
}

fn load(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Effective, Faults> {
    let mut settings = settings(text, env, flags);
    read_all(&mut settings.section(&["s"]));
    settings.finish()
}

fn fault_of(text: &str) -> String {
    load(text, &[], &[]).expect_err(text).to_string()
}

fn literal(effective: &Effective, key: &str) -> (String, Source) {
    let path = KeyPath::parse(key).expect("a key");
    let entry = effective.get(&path).unwrap_or_else(|| panic!("{key} is not known"));
    (entry.literal.clone().unwrap_or_default(), entry.source.clone())
}

#[test]
fn a_wrong_value_says_what_would_be_right() {
    let cases = [
        (r#"duration = "30""#, r#"s.duration: "30" has no unit; write "30s""#),
        (r#"duration = 30"#, r#"s.duration: "30" has no unit; write "30s""#),
        (r#"duration = true"#, r#"s.duration: true is not right here; write for example "30s""#),
        (
            r#"duration = "soon""#,
            r#"s.duration: "soon" is not a duration; write for example "30s", "250ms" or "5m""#,
        ),
        (r#"bytes = 64"#, r#"s.bytes: "64" has no unit; write "64B""#),
        (r#"bytes = ["64MiB"]"#, r#"s.bytes: a list is not right here; write for example "64MiB""#),
        (r#"bytes = "many""#, r#"s.bytes: "many" is not a size; write for example "64MiB" or "32KiB""#),
        (r#"integer = "8""#, r#"s.integer: "8" is not a whole number; write 1 to 10"#),
        (r#"integer = 1.5"#, r#"s.integer: 1.5 is not a whole number; write 1 to 10"#),
        (r#"integer = 0"#, "s.integer: 0 is out of range; write 1 to 10"),
        (r#"integer = -1"#, "s.integer: -1 is out of range; write 1 to 10"),
        (r#"integer = 0xffff_ffff_ffff"#, "s.integer: 281474976710655 is out of range; write 1 to 10"),
        (
            r#"integer = 99999999999999999999"#,
            "s.integer: 99999999999999999999 is out of range; write 1 to 10",
        ),
        (r#"float = 1.5"#, "s.float: 1.5 is out of range; write 0 to 1"),
        (r#"float = nan"#, "s.float: NaN is not a number; write 0 to 1"),
        (r#"float = "x""#, r#"s.float: "x" is not a number; write 0 to 1"#),
        (r#"bool = "true""#, r#"s.bool: "true" is neither true nor false; write one of them"#),
        (r#"string = 5"#, r#"s.string: 5 is not a string; write "5""#),
        (r#"string = []"#, "s.string: an empty list is not a string; write it in quotes"),
        (r#"string = 2020-01-01"#, r#"s.string: 2020-01-01 is not a string; write "2020-01-01""#),
        (r#"strings = "a""#, r#"s.strings: "a" is not a list of strings; write ["a", "b"]"#),
        (r#"strings = ["a", 1]"#, r#"s.strings: a list is not a list of strings; write ["a", "b"]"#),
        (r#"choice = "c""#, r#"s.choice: "c" is not one of a, b"#),
        (r#"policy = "LRU""#, r#"s.policy: "LRU" is not one of fifo, lru, lfu; did you mean lru?"#),
        (r#"policy = "fife""#, r#"s.policy: "fife" is not one of fifo, lru, lfu; did you mean fifo?"#),
        (r#"parsed = "256""#, r#"s.parsed: "256" is not a small number; write for example "1""#),
    ];
    for (line, message) in cases {
        assert_eq!(fault_of(&format!("[s]\n{line}")), format!("{message} (from test.toml line 2)"));
    }
}

#[test]
fn every_fault_is_reported_at_once_and_in_its_place() {
    let text = "[s]\nduration = 1\ninteger = 99\nparsed_list = [\"1\", \"x\", \"y\"]\nstrng = 1\n\n[t]\na = 1\nb = 2\n";
    assert_eq!(
        fault_of(text),
        "s.duration: \"1\" has no unit; write \"1s\" (from test.toml line 2)\n\
         s.integer: 99 is out of range; write 1 to 10 (from test.toml line 3)\n\
         s.parsed_list: \"x\" is not a small number; write for example \"1\" (from test.toml line 4)\n\
         s.parsed_list: \"y\" is not a small number; write for example \"1\" (from test.toml line 4)\n\
         unknown key s.strng; did you mean s.string? (from test.toml line 5)\n\
         unknown section t (from test.toml line 7)"
    );
}

#[test]
fn sections_and_values_are_not_confused() {
    for (text, message) in [
        ("s = 5", "s: this is a section, not a value; write its keys below [s] (from test.toml line 1)"),
        (
            "[[s]]\nbool = true",
            "s: this is a section, not a value; write its keys below [s] (from test.toml line 1)",
        ),
        ("[s.bool]\nx = 1", "s.bool: this takes one value, not a table (from test.toml line 1)"),
        ("[s]\nbool = { x = 1 }", "s.bool: this takes one value, not a table (from test.toml line 2)"),
        ("[empty_section]", "unknown section empty_section (from test.toml line 1)"),
        ("[s.deep.er]\nx = 1", "unknown section s.deep (from test.toml line 1)"),
        ("ttl = 1", "unknown key ttl (from test.toml line 1)"),
        ("bool = true", "unknown key bool; did you mean s.bool? (from test.toml line 1)"),
        ("\"a\\nb\" = 1", "unknown key \"a\\nb\" (from test.toml line 1)"),
    ] {
        assert_eq!(fault_of(text), message, "{text}");
    }
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let text = "[s]\ninteger = 2\nfloat = 0\nbool = true\n";
    let env = [("GGCACHE__S__INTEGER", "3"), ("GGCACHE__S__FLOAT", "0.25"), ("OTHER__S__BOOL", "x")];
    let effective = load(text, &env, &[("s.integer", "4"), ("s.integer", "6")]).expect("all is right");
    let file = |line| Source::File { path: "test.toml".into(), line };
    assert_eq!(literal(&effective, "s.integer"), ("6".to_owned(), Source::Flag("--set".to_owned())));
    assert_eq!(
        literal(&effective, "s.float"),
        ("0.25".to_owned(), Source::Env("GGCACHE__S__FLOAT".to_owned()))
    );
    assert_eq!(literal(&effective, "s.bool"), ("true".to_owned(), file(4)));
    assert_eq!(literal(&effective, "s.string"), ("\"text\"".to_owned(), Source::Default));
}

#[test]
fn a_variable_is_read_as_its_key_expects() {
    for (name, value, expected) in [
        ("DURATION", "1500ms", r#""1500ms""#),
        ("DURATION", "0", r#""0s""#),
        ("BYTES", "2KiB", r#""2KiB""#),
        ("INTEGER", " 7 ", "7"),
        ("FLOAT", "1", "1.0"),
        ("BOOL", "true", "true"),
        ("STRING", "", r#""""#),
        ("STRING", "30", r#""30""#),
        ("OPTIONAL", "x", r#""x""#),
        ("STRINGS", "a, b,", r#"["a", "b"]"#),
        ("STRINGS", r#"["a,b"]"#, r#"["a,b"]"#),
        ("STRINGS", "[::1]:1,b:2", r#"["[::1]:1", "b:2"]"#),
        ("STRINGS", "", "[]"),
        ("PARSED_LIST", "1,2", r#"["1", "2"]"#),
    ] {
        let effective = load("", &[(&format!("GGCACHE__S__{name}"), value)], &[]);
        let effective = effective.unwrap_or_else(|faults| panic!("{name}={value}: {faults}"));
        assert_eq!(literal(&effective, &format!("s.{}", name.to_lowercase())).0, expected, "{name}={value}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, expected) in [
        ("GGCACHE__S__DURATION", "30", r#"s.duration: "30" has no unit; write "30s""#),
        ("GGCACHE__S__INTEGER", "", r#"s.integer: "" is not a whole number; write 1 to 10"#),
        ("GGCACHE__S__BOOL", "1", r#"s.bool: "1" is neither true nor false; write one of them"#),
        ("GGCACHE__S__FLOAT", "inf", r#"s.float: "inf" is not a number; write 0 to 1"#),
        ("GGCACHE__S__STRINGS", "[a]", r#"s.strings: "[a]" is not a list; write ["a", "b"] or a,b"#),
        ("GGCACHE__S__STRINGS", "[1]", r#"s.strings: "[1]" is not a list of strings; write ["a", "b"]"#),
        ("GGCACHE__S__DURATOIN", "30s", "unknown key s.duratoin; did you mean s.duration?"),
        ("GGCACHE__", "x", "unknown key \"\""),
        ("GGCACHE__S", "x", "s: this is a section, not a value; write its keys below [s]"),
        ("GGCACHE__S__DURATION__X", "x", "unknown key s.duration.x; did you mean s.duration?"),
    ] {
        let faults = load("", &[(name, value)], &[]).expect_err(name);
        assert_eq!(faults.to_string(), format!("{expected} (from environment {name})"));
    }
}

#[test]
fn a_variable_given_twice_is_refused() {
    let faults =
        load("", &[("GGCACHE__S__BOOL", "true"), ("GGCACHE__s__bool", "false")], &[]).expect_err("twice");
    assert_eq!(
        faults.to_string(),
        "s.bool: the environment gives it twice, as GGCACHE__s__bool too; keep one (from environment GGCACHE__S__BOOL)"
    );
}

#[cfg(unix)]
#[test]
fn variables_that_are_not_text() {
    use std::os::unix::ffi::OsStringExt;

    let broken = || OsString::from_vec(vec![b'a', 0xff]);
    let mut settings = Settings::new();
    settings.add_env([
        (broken(), "x".into()),
        ("PATH".into(), broken()),
        ("GGCACHE__S__STRING".into(), broken()),
    ]);
    read_all(&mut settings.section(&["s"]));
    assert_eq!(
        settings.finish().expect_err("one of ours").to_string(),
        "s.string: the value is not UTF-8 text (from environment GGCACHE__S__STRING)"
    );
}

#[test]
fn wrong_flags() {
    for (key, expected) in [
        ("s.intger", "unknown key s.intger; did you mean s.integer? (from flag --set)"),
        ("s..integer", "\"s..integer\": not a key; write for example node.listen (from flag --set)"),
        ("", "\"\": not a key; write for example node.listen (from flag --set)"),
    ] {
        assert_eq!(load("", &[], &[(key, "3")]).expect_err(key).to_string(), expected);
    }
}

#[test]
fn names_come_from_every_source() {
    let text = "[g.one]\n[g.two_2]\nx = 1\n[g.a__b]\ng.Caps.x = 1\ng2.x = 1\n";
    let env = [
        ("GGCACHE__G__THREE__X", "1"),
        ("GGCACHE__G__A__B__X", "1"),
        ("GGCACHE__G__CAPS__X", "1"),
        ("GGCACHE__G__X", "1"),
        ("GGCACHE__G____X", "1"),
    ];
    let mut settings = settings("", &env, &[("g.four.x", "1"), ("g.x", "1")]);
    settings
        .add_text("test.toml", &text.replace("g.Caps.x = 1\ng2.x = 1\n", "[g.Caps]\n[g2]\n"))
        .expect("TOML");
    assert_eq!(settings.names(&["g"]), ["Caps", "a__b", "four", "one", "three", "two_2"]);
    // The variables of names with capitals or double underscores reach their keys.
    for name in ["a__b", "Caps", "three"] {
        assert_eq!(settings.section(&["g", name]).integer("x", 0, 0..=9), 1, "{name}");
    }
}

#[test]
fn what_is_missing_points_at_its_section() {
    let read = |mut settings: Settings| {
        for path in [&["s"][..], &["g", "one"]] {
            settings.section(path).required_string("name", "x");
        }
        settings.section(&["s"]).required_strings("list", "x");
        settings.finish().expect_err("all are missing").to_string()
    };
    let expected = |s: &str, one: &str| {
        format!(
            "s.name: it is missing; write for example name = \"x\"{s}\n\
             g.one.name: it is missing; write for example name = \"x\"{one}\n\
             s.list: it is missing; write for example list = [\"x\"]{s}"
        )
    };
    assert_eq!(
        read(settings("\n[s]\n[g.one]\n", &[], &[])),
        expected(" (from test.toml line 2)", " (from test.toml line 3)")
    );
    assert_eq!(read(settings("", &[], &[])), expected("", ""));
    // A variable that names a section may be there by mistake, unlike one that sets a key of a section.
    let env = [("GGCACHE__G__ONE__X", "1"), ("GGCACHE__S__X", "1")];
    let faults = read(settings("", &env, &[]));
    assert!(faults.starts_with(&expected("", " (from environment GGCACHE__G__ONE__X)")), "{faults}");

    let wrong = read(settings("[s]\nname = 1\nlist = 2\n[g]\none.name = \"\"\n", &[], &[]));
    assert!(!wrong.contains("missing"), "{wrong}");
}

#[test]
fn a_part_s_faults_get_their_full_keys_and_sources() {
    let mut settings = settings("[s]\ninteger = 3\n", &[], &[]);
    let mut section = settings.section(&["s"]);
    read_all(&mut section);
    let mut checks = Checks::new();
    checks.number("integer", 3, &(5..=6));
    checks.duration(
        "duration",
        Duration::from_secs(1),
        &(Duration::from_secs(60)..=Duration::from_secs(120)),
    );
    checks.bytes("bytes", 1024, &(1..=1023));
    section.check(checks.finish());
    assert!(!section.is_sound("integer") && section.is_sound("bool"));
    assert!(!settings.is_sound("s.*") && !settings.is_sound("*.integer") && settings.is_sound("*"));
    assert_eq!(
        settings.finish().expect_err("three").to_string(),
        "s.integer: 3 is out of range; write 5 to 6 (from test.toml line 2)\n\
         s.duration: \"1s\" is out of range; write \"1m\" to \"2m\" (from test.toml line 1)\n\
         s.bytes: \"1KiB\" is out of range; write \"1B\" to \"1023B\" (from test.toml line 1)"
    );
}

#[test]
fn secrets_are_in_no_message() {
    struct Hidden;
    impl std::fmt::Display for Hidden {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("***")
        }
    }
    for text in [
        "[s]\nkey = 31337\n",
        "[s]\nkey = [\"31337\"]\n",
        "[s]\nkey = { a = 31337 }\n",
        "[s]\nkey.a = \"31337\"\n",
    ] {
        let mut settings = settings(text, &[], &[]);
        settings.section(&["s"]).secret("key", "x", |_| Hidden);
        let faults = settings.finish().expect_err(text);
        assert!(!format!("{faults} {faults:?}").contains("31337"), "{faults:?}");
    }
    let mut settings = settings("[s]\nkey = \"31337\"\n", &[], &[]);
    settings.section(&["s"]).secret("key", "x", |_| Hidden);
    let effective = settings.finish().expect("it is right");
    assert!(!format!("{effective} {effective:?}").contains("31337"));
    assert_eq!(effective.to_string(), "[s]\nkey = \"***\"  # test.toml line 2, shown without secrets\n");
}

#[test]
fn a_syntax_error_has_line_and_column_and_shows_no_text() {
    for (text, place) in [
        ("a = 1\nurl = \"31337\n", "line 2, column 13"),
        ("\u{e9} = 1\n", "line 1, column 1"),
        ("a = 1\na = 31337\n", "line 2, column 1"),
        ("[s]\nb = 31337 c", "line 2, column 5"),
        ("x", "line 1, column 2"),
    ] {
        let message = Settings::new().add_text("test.toml", text).expect_err(text).to_string();
        assert!(message.starts_with(&format!("test.toml {place}: ")), "{message}");
        assert!(!message.contains("31337") && !message.contains('\n'), "{message}");
    }
    let deep = format!("x = {}", "[".repeat(100_000));
    assert!(Settings::new().add_text("test.toml", &deep).is_err());
}

#[test]
fn files_that_can_not_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("a file");
        path
    };
    let message = |path: &Path| Settings::new().add_file(path).expect_err("a fault").to_string();
    let missing = folder.path().join("none.toml");
    assert!(message(&missing).starts_with(&format!("{}: the file can't be read: ", missing.display())));
    assert!(message(folder.path()).contains("the file can't be read: "));
    let broken = write("broken.toml", b"a = 1\nb = \"\xff\"\n");
    assert_eq!(
        message(&broken),
        format!("{} line 2, column 1: the line is not UTF-8 text", broken.display())
    );

    let mut largest = b"#".repeat(FILE_BYTES_MAX);
    Settings::new().add_file(&write("largest.toml", &largest)).expect("it is just small enough");
    largest.push(b'#');
    assert!(message(&write("larger.toml", &largest)).contains("larger than 1MiB"));
    #[cfg(unix)]
    assert!(message(Path::new("/dev/zero")).contains("larger than 1MiB"));
    Settings::new().add_file(&write("bom.toml", b"\xef\xbb\xbf[s]\n")).expect("a byte order mark is allowed");
}

#[test]
fn the_effective_settings_are_a_document_with_sources() {
    let mut settings = settings("[s]\nname = \"a\"\n[g.one]\n", &[("GGCACHE__TOP", "x\ny")], &[]);
    settings.section(&["s"]).string("name", "");
    settings.section(&["s"]).optional_string("left_out");
    settings.section(&["g", "one"]).duration("ttl", Duration::from_secs(90));
    settings.root().string("top", "");
    let text = settings.finish().expect("all is right").to_string();
    assert!(text.starts_with("top = "), "the document's own keys come first:\n{text}");
    assert!(text.ends_with(
        "\n[s]\nname = \"a\"  # test.toml line 2\n# left_out is not set\n\n[g.one]\nttl = \"90s\"  # default\n"
    ));
    let again: toml::Table = text.parse().expect("it is TOML");
    assert_eq!(again["top"].as_str(), Some("x\ny"));
}

#[test]
fn a_file_of_another_kind_is_refused_in_good_time() {
    let text: String = (0..60_000).map(|i| format!("k{i} = {i}\n")).collect();
    let faults = load(&text, &[], &[]).expect_err("nothing in it is known");
    assert_eq!(faults.iter().count(), 60_000);
}

proptest! {
    #[test]
    fn no_file_panics(text in "\\PC*") {
        let mut settings = Settings::new();
        if settings.add_text("test.toml", &text).is_ok() {
            read_all(&mut settings.section(&["s"]));
            let _ = settings.finish();
        }
    }

    #[test]
    fn no_value_panics(
        key in prop::sample::select(vec![
            "duration", "bytes", "integer", "float", "bool", "string", "optional", "strings", "choice", "parsed",
            "parsed_list",
        ]),
        value in prop_oneof!["\\PC*", "[0-9.eE+_-]{0,30}[a-zA-Z]{0,3}", "\\[.*\\]"],
    ) {
        let _ = load(&format!("[s]\n{key} = 1\n"), &[], &[("s.key", &value), (&format!("s.{key}"), &value)]);
        let variable = format!("GGCACHE__S__{}", key.to_uppercase());
        if let Ok(effective) = load("", &[(&variable, &value)], &[]) {
            // What was accepted is written so that it reads the same again.
            let again = load(&effective.to_string(), &[], &[]).expect("the effective settings are right");
            let key = format!("s.{key}");
            prop_assert_eq!(literal(&effective, &key).0, literal(&again, &key).0);
        }
    }
}
