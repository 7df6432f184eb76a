//! How settings are read: layers of sources, typed access, and every fault at once.
//!
//! Flags lie over the environment, the environment over the file, the file over the defaults. A part reads
//! its own keys through a [`Section`], which converts each value to what the key expects and notes where it
//! came from. What is wrong becomes a [`Fault`] with its key, its source and what would be right; reading
//! goes on with the default, so that one run reports everything. In the end [`Settings::finish`] reports
//! the keys that nobody asked for and gives the [`Effective`] settings.
//!
//! Invariants: this module knows no key; no input makes it panic; a value read as a secret appears in no
//! message. The parts' `config` modules call it, and `crate::config` joins them.

mod checks;
mod effective;
mod fault;
mod file;
mod human;
mod path;
mod raw;
mod section;
mod source;
mod store;
mod suggest;
#[cfg(test)]
mod tests;

pub use checks::Checks;
pub use effective::{Change, Effective, Entry};
pub use fault::{Fault, Faults};
pub use file::FILE_BYTES_MAX;
pub use human::{format_bytes, format_duration, parse_bytes, parse_duration};
pub use path::KeyPath;
pub use section::Section;
pub use source::Source;
pub use store::Settings;
pub use suggest::nearest;
