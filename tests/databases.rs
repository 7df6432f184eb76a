//! What only real databases show, on PostgreSQL and MariaDB servers that the tests start themselves.
//!
//! All tests of one kind share a server, and each makes a database of its own in it. See `support/postgres.rs` and
//! `support/mariadb.rs` for where the programs are found.

use ggcache::group;

#[path = "../src/origin/conformance.rs"]
mod conformance;

mod databases {
    mod changes;
    #[cfg(feature = "mysql")]
    mod mysql_tables;
    #[cfg(feature = "postgres")]
    mod postgres_tables;
    mod servers;
    mod site;
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    mod tables;
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    mod writes;
}

#[path = "support/keeper.rs"]
mod keeper;
#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "support/postgres.rs"]
mod postgres;
