//! `[api.tls]`, `[admin.tls]` and `[node.tls]`: the files of a plane that speaks TLS.

use std::path::PathBuf;

use crate::settings::{Checks, Faults, Section};

/// Whose TLS it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsPlane {
    /// The public plane.
    Api,
    /// The operators' plane.
    Admin,
    /// The peer plane, which nodes dial too.
    Peer,
}

impl TlsPlane {
    /// The section of the configuration.
    pub const fn section(self) -> &'static str {
        match self {
            Self::Api => "api.tls",
            Self::Admin => "admin.tls",
            Self::Peer => "node.tls",
        }
    }

    /// The key that names the authorities. Of peers it is those of both ends.
    pub(super) const fn ca_key(self) -> &'static str {
        match self {
            Self::Api | Self::Admin => "client_ca",
            Self::Peer => "ca",
        }
    }
}

/// The files of a plane that speaks TLS, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Whose they are.
    pub plane: TlsPlane,
    /// The node's certificate, and those that lead to its authority.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// The authorities that vouch for clients; without them none is asked who it is. Of the peer plane, for nodes, and
    /// never missing.
    pub ca: Option<PathBuf>,
}

impl TlsConfig {
    /// Reads the keys of a section; `None` if it has none.
    pub fn read(section: &mut Section<'_>, plane: TlsPlane) -> Option<Self> {
        let names = ["cert", "key", plane.ca_key()];
        let examples = ["node.pem", "node.key", "ca.pem"];
        let files = names.map(|name| section.optional_string(name));
        if !names.iter().any(|name| section.is_given(name)) {
            return None;
        }
        for ((name, example), file) in names.iter().zip(examples).zip(&files) {
            let is_needed = *name != "client_ca";
            if file.as_ref().is_some_and(String::is_empty) {
                section.fault(name, "it is empty; write the path of a file in PEM");
            } else if is_needed && !section.is_given(name) {
                let all = if plane == TlsPlane::Peer { "cert, key and ca" } else { "cert and key" };
                let message =
                    format!("it is missing, and TLS needs {all}; write for example {name} = \"{example}\"");
                section.fault(name, message);
            }
        }
        let [cert, key, ca] = files.map(|file| file.map(PathBuf::from));
        Some(Self { plane, cert: cert?, key: key?, ca })
    }

    /// Whether all is named that is needed; no file is looked at.
    ///
    /// # Errors
    /// What is missing, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        if self.plane == TlsPlane::Peer && self.ca.is_none() {
            checks.fault("ca", "it is missing, and without it no peer can be trusted");
        }
        checks.finish()
    }
}
