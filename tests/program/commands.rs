//! `check`, `migrate` and `config`: what they print, and their exit codes.

use crate::support::site::Site;

const CONFIG: &str = r#"
[database.school]
url = "sqlite:school.db"

[group.scores]
table = "students"
key_column = "name"
value_columns = ["score"]
"#;

#[test]
fn migrate_creates_the_demos_table_once() {
    let site = Site::new(CONFIG);
    let first = site.run(&["migrate"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert_eq!(first.stdout, "database school (sqlite:school.db): applied 2026-01-01-000000_students\n");
    let second = site.run(&["migrate"]);
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert_eq!(second.stdout, "database school (sqlite:school.db): nothing to do\n");
    assert_eq!(site.run(&["check"]).code, Some(0));

    let taken = Site::with(CONFIG, "CREATE TABLE students (x INTEGER)");
    let failed = taken.run(&["migrate"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    assert!(failed.stderr.starts_with("error: database school: "), "{}", failed.stderr);
    taken.sql("INSERT INTO students VALUES (1)");

    let none = Site::new("");
    let failed = none.run(&["migrate"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.stderr.contains("no database is configured"), "{}", failed.stderr);
}

#[test]
fn check_says_what_is_well_and_what_is_not() {
    let site = Site::new(CONFIG);
    let missing = site.run(&["check"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(1), ""));
    assert!(missing.stderr.contains("there is no database file \"school.db\": `ggcache migrate` creates it"));
    assert!(!site.database().exists(), "looking creates nothing");

    assert_eq!(site.run(&["migrate"]).code, Some(0));
    let well = site.run(&["check"]);
    assert_eq!((well.code, well.stderr.as_str()), (Some(0), ""));
    let expected =
        "group scores: table \"students\", key column \"name\" (text), values from \"score\" (INTEGER): ok\n";
    assert_eq!(well.stdout, expected);

    // All groups are tried, and all that is wrong is told.
    site.sql("CREATE TABLE plain (k TEXT, v TEXT)");
    site.configure(&format!(
        "{CONFIG}\n[group.plain]\ntable = \"plain\"\nkey_column = \"k\"\nvalue_columns = [\"v\"]\n\
         [group.wrong]\ntable = \"plain\"\nkey_column = \"x\"\nvalue_columns = [\"v\"]\n\
         [group.gone]\ntable = \"gone\"\nkey_column = \"x\"\nvalue_columns = [\"v\"]\n"
    ));
    let mixed = site.run(&["check"]);
    assert_eq!(mixed.code, Some(1));
    assert_eq!(mixed.stdout.lines().count(), 2, "{}", mixed.stdout);
    for expected in [
        "warning: group plain: the key column \"k\" of table \"plain\" has no index",
        "warning: group plain: the key column \"k\" of table \"plain\" has no unique index",
        "error: group wrong: the table \"plain\" has no column \"x\": it has k, v",
        "error: group gone: the database file \"school.db\" has no table \"gone\"",
    ] {
        assert!(mixed.stderr.contains(expected), "{expected}: {}", mixed.stderr);
    }

    site.configure("");
    let empty = site.run(&["check"]);
    assert_eq!(empty.code, Some(0));
    assert!(empty.stderr.contains("no group is configured"), "{}", empty.stderr);
}

#[test]
fn a_wrong_configuration_fails_every_command_alike() {
    let site =
        Site::new("[nod]\n[limits]\nin_flight = \"x\"\nrequest_timeout = 2\n[group.scores]\nttl = \"0s\"\n");
    for command in ["serve", "check", "migrate", "config"] {
        let failed = site.run(&[command]);
        assert_eq!((failed.code, failed.stdout.as_str()), (Some(2), ""), "{command}");
        for expected in [
            "nod",
            "did you mean node",
            "limits.in_flight",
            "limits.request_timeout",
            "\"2s\"",
            "group.scores.ttl",
        ] {
            assert!(failed.stderr.contains(expected), "{command}, {expected}: {}", failed.stderr);
        }
        assert!(failed.stderr.lines().all(|line| line.starts_with("error: ")), "{}", failed.stderr);
    }
    for arguments in
        [&["swerve"][..], &[], &["serve", "--port", "0"], &["serve", "--set", "x"], &["check", "extra"]]
    {
        let failed = site.run(arguments);
        assert_eq!((failed.code, failed.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(
            failed.stderr.starts_with("error: ") || failed.stderr.contains("Usage:"),
            "{}",
            failed.stderr
        );
    }
    let missing = site.run(&["check", "--config", "gone.toml"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("gone.toml"), "{}", missing.stderr);
}

#[test]
fn help_and_version_are_no_errors() {
    let site = Site::new("");
    for arguments in [&["--help"][..], &["help"], &["serve", "--help"], &["--version"]] {
        let shown = site.run(arguments);
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(shown.stdout.contains("ggcache"), "{}", shown.stdout);
    }
}

#[test]
fn what_config_prints_can_be_loaded() {
    let site = Site::new(CONFIG);
    let arguments = [
        "--port",
        "12002",
        "--api",
        "--set",
        "group.scores.ttl=45s",
        "--set",
        "cluster.peers=localhost:12001",
    ];
    let first = site.run(&[&["config"][..], &arguments].concat());
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    for expected in [
        "listen = \"127.0.0.1:12002\"  # flag --port",
        "ttl = \"45s\"  # flag --set",
        "listen = \"127.0.0.1:13002\"  # ",
    ] {
        assert!(first.stdout.contains(expected), "{expected}: {}", first.stdout);
    }
    std::fs::write(site.path("printed.toml"), &first.stdout).expect("written");
    let second = site.run(&["config", "--config", "printed.toml"]);
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(values(&first.stdout), values(&second.stdout));
}

#[test]
fn the_environment_stands_between_the_file_and_the_flags() {
    let site = Site::new(&format!("{CONFIG}\nttl = \"10s\"\nnegative_ttl = \"1s\"\ncapacity = \"2MiB\"\n"));
    let mut command = site.command(&["config", "--set", "group.scores.ttl=30s"]);
    command.env("GGCACHE__GROUP__SCORES__TTL", "20s").env("GGCACHE__GROUP__SCORES__NEGATIVE_TTL", "2s");
    let output = command.output().expect("it was built");
    let text = String::from_utf8(output.stdout).expect("text");
    for expected in [
        "ttl = \"30s\"  # flag --set",
        "negative_ttl = \"2s\"  # environment GGCACHE__GROUP__SCORES__NEGATIVE_TTL",
        "capacity = \"2MiB\"  # site.toml line ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(expected)), "{expected}: {text}");
    }
}
