//! The servers themselves: what the other tests take for granted.

use crate::{mariadb::MariaDb, postgres::Postgres};

#[test]
fn postgres_keeps_what_was_committed_when_it_is_killed() {
    let mut server = Postgres::start(&["log_min_messages=warning"]);
    let (one, two) = (server.database(), server.database());
    server.psql(&one, "CREATE TABLE t (k text PRIMARY KEY); INSERT INTO t VALUES ('é');");
    let (port, pid) = (server.port(), server.pid());
    server.kill();
    server.restart();
    assert_ne!(server.pid(), pid);
    assert!(server.socket_directory().join(format!(".s.PGSQL.{port}")).exists());
    assert!(server.url_as("me", &one).ends_with(&format!("://me@127.0.0.1:{port}/{one}")));
    assert!(server.data().join("pg_hba.conf").exists());
    assert_eq!(server.psql(&one, "SELECT k, current_setting('log_min_messages') FROM t"), "é|warning\n");
    assert_eq!(server.psql(&two, "SELECT count(*) FROM pg_tables WHERE tablename = 't'"), "0\n");
    server.stop();
}

#[test]
fn mariadb_keeps_what_was_committed_when_it_is_killed() {
    let mut server = MariaDb::start(&["--lock-wait-timeout=17"]);
    let (one, two) = (server.database(), server.database());
    server.mariadb(&one, "CREATE TABLE t (k varchar(10) PRIMARY KEY); INSERT INTO t VALUES ('é');");
    let (port, pid) = (server.port(), server.pid());
    server.kill();
    server.restart();
    assert_ne!(server.pid(), pid);
    assert!(server.url(&one).ends_with(&format!("://ggcache:secret@127.0.0.1:{port}/{one}")));
    assert_eq!(server.mariadb(&one, "SELECT k, @@global.lock_wait_timeout FROM t"), "é\t17\n");
    assert_eq!(server.mariadb(&two, "SHOW TABLES"), "");
    server.stop();
}

#[test]
fn a_shared_server_answers() {
    let database = Postgres::shared().database();
    assert_eq!(Postgres::shared().psql(&database, "SELECT current_database()"), format!("{database}\n"));
    let database = MariaDb::shared().database();
    assert_eq!(MariaDb::shared().mariadb(&database, "SELECT database()"), format!("{database}\n"));
}
