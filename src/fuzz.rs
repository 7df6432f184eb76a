//! What the fuzz targets in `fuzz/` call: one function for each kind of input that strangers write. Only in builds with the
//! feature `fuzzing`, and no part of the library's interface.
//!
//! Each function takes any bytes, and asserts what holds whatever they are: nothing panics, what is written is read back as
//! it was, what is told is bounded, and nobody is let in. The checks stand beside what they check, in modules of the same
//! name; this one opens the way to them.

#[cfg(feature = "etcd")]
use crate::discovery;
use crate::{access, config, gateway, transport};

/// A seal with its request, and a token.
pub fn access(data: &[u8]) {
    access::fuzz_seal(data);
    access::fuzz_token(data);
}

/// A configuration file.
pub fn config(data: &[u8]) {
    config::fuzz_config(data);
}

/// An entry in etcd.
#[cfg(feature = "etcd")]
pub fn etcd(data: &[u8]) {
    discovery::fuzz_etcd_entry(data);
}

/// What nodes say to each other.
pub fn frames(data: &[u8]) {
    transport::fuzz_frames(data);
    transport::fuzz_messages(data);
    #[cfg(feature = "grpc")]
    transport::fuzz_grpc_messages(data);
}

/// A request's headers.
pub fn headers(data: &[u8]) {
    gateway::fuzz_headers(data);
}

/// A request's target, and the body that names keys.
pub fn keys(data: &[u8]) {
    gateway::fuzz_key(data);
    gateway::fuzz_body(data);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    type Target = (&'static str, fn(&[u8]));

    /// The seeds that are committed break nothing, in the target that they are for.
    #[test]
    fn seeds_hold() {
        let targets: &[Target] = &[
            ("access", super::access),
            ("config", super::config),
            #[cfg(feature = "etcd")]
            ("etcd", super::etcd),
            ("frames", super::frames),
            ("headers", super::headers),
            ("keys", super::keys),
        ];
        for (target, check) in targets {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
            for seed in fs::read_dir(&folder).expect("each target has seeds") {
                check(&fs::read(seed.expect("a seed").path()).expect("a file"));
            }
        }
    }
}
