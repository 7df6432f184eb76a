//! `[etcd]`: where etcd is, how this node shows itself there, and for how long without a sign of life.
//!
//! Read in every build, so that one file serves all of them; used only where `cluster.discovery` is `"etcd"`.

use std::{fmt, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use thiserror::Error;

use crate::{
    cluster::Address,
    settings::{Checks, Faults, Section},
};

/// The most endpoints that may be listed; an etcd has three, five or seven members.
const ENDPOINTS_MAX: usize = 16;
/// etcd grants no less than 2 s at its usual election timeout, and says so to nobody.
const LEASE_TTL: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(60 * 60);

/// How etcd is reached, and what is kept there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdConfig {
    /// etcd's members. All with TLS or none.
    pub endpoints: Vec<EtcdEndpoint>,
    /// For how long a node without a sign of life stays registered; in whole seconds, rounded up.
    pub lease_ttl: Duration,
    /// The user, where etcd asks for one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<EtcdPassword>,
    /// A file with the certificates, in PEM, of the authorities that vouch for etcd. Needed for TLS, and, like the two
    /// below, without effect where there is none.
    pub ca: Option<PathBuf>,
    /// A file with this node's certificate, in PEM, where etcd asks for one.
    pub cert: Option<PathBuf>,
    /// A file with the certificate's key, in PEM.
    pub key: Option<PathBuf>,
}

impl Default for EtcdConfig {
    fn default() -> Self {
        let local = |port| EtcdEndpoint(format!("http://127.0.0.1:{port}"));
        Self {
            endpoints: [2379, 22379, 32379].map(local).to_vec(),
            lease_ttl: Duration::from_secs(5),
            user: None,
            password: None,
            ca: None,
            cert: None,
            key: None,
        }
    }
}

impl EtcdConfig {
    /// Reads the keys of `[etcd]`, and checks them.
    pub fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            endpoints: section.parsed_list(
                "endpoints",
                default.endpoints,
                "an endpoint of etcd; write for example \"http://127.0.0.1:2379\"",
            ),
            lease_ttl: section.duration("lease_ttl", default.lease_ttl),
            user: section.optional_string("user"),
            password: section.optional_secret("password", EtcdPassword::new),
            ca: section.optional_string("ca").map(PathBuf::from),
            cert: section.optional_string("cert").map(PathBuf::from),
            key: section.optional_string("key").map(PathBuf::from),
        };
        section.check_sound(config.validate());
        config
    }

    /// Whether etcd is spoken to by TLS.
    pub fn has_tls(&self) -> bool {
        self.endpoints.iter().any(EtcdEndpoint::has_tls)
    }

    /// Whether every value lies within its bounds, and they agree with each other.
    ///
    /// # Errors
    /// Every value that is wrong, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        let with_tls = self.endpoints.iter().filter(|endpoint| endpoint.has_tls()).count();
        if self.endpoints.is_empty() {
            checks.fault("endpoints", "the list is empty; write for example [\"http://127.0.0.1:2379\"]");
        } else if self.endpoints.len() > ENDPOINTS_MAX {
            let count = self.endpoints.len();
            checks.fault("endpoints", format!("there are {count}; write {ENDPOINTS_MAX} at most"));
        } else if with_tls != 0 && with_tls != self.endpoints.len() {
            checks.fault("endpoints", "some begin with http:// and some with https://; write all alike");
        }
        checks.duration("lease_ttl", self.lease_ttl, &LEASE_TTL);
        match (&self.user, &self.password) {
            (Some(user), _) if user.is_empty() => {
                checks.fault("user", "it is empty; leave it out where etcd asks for no user");
            }
            (Some(_), None) => checks.fault("password", "it is missing, and there is a user"),
            (None, Some(_)) => checks.fault("user", "it is missing, and there is a password"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if with_tls > 0 && self.ca.is_none() {
            checks.fault("ca", "it is missing, and without it no https endpoint can be trusted");
        }
        match (&self.cert, &self.key) {
            (Some(_), None) => checks.fault("key", "it is missing, and there is a certificate"),
            (None, Some(_)) => checks.fault("cert", "it is missing, and there is a key"),
            (Some(_), Some(_)) | (None, None) => {}
        }
        checks.finish()
    }
}

/// Where one member of etcd takes requests: `http://host:port` or `https://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdEndpoint(String);

/// The text is not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an endpoint is http://host:port or https://host:port")]
pub struct EtcdEndpointError;

impl EtcdEndpoint {
    /// The endpoint as it is spelled.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is spoken to by TLS.
    pub fn has_tls(&self) -> bool {
        self.0.starts_with("https://")
    }
}

impl FromStr for EtcdEndpoint {
    type Err = EtcdEndpointError;

    /// A user, a password or a path in the text is an error: etcd has its own keys for the first two and no use for
    /// the last.
    fn from_str(text: &str) -> Result<Self, EtcdEndpointError> {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let address = rest.ok_or(EtcdEndpointError)?.trim_end_matches('/');
        Address::new(address).map_err(|_| EtcdEndpointError)?;
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for EtcdEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A password. `Debug` and `Display` show three asterisks.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdPassword(String);

impl EtcdPassword {
    /// Takes the password as it is.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password itself. Never to be logged or answered.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EtcdPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for EtcdPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(EtcdConfig::default().validate(), Ok(()));
    }

    #[test]
    fn endpoints() {
        for text in ["http://127.0.0.1:2379", "https://etcd-1.example.com:2379", "http://[::1]:2379/"] {
            let endpoint: EtcdEndpoint = text.parse().unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(endpoint.as_str(), text.trim_end_matches('/'));
            assert_eq!(endpoint.has_tls(), text.starts_with("https"));
        }
        for text in
            ["", "127.0.0.1:2379", "http://etcd", "http://u:p@etcd:2379", "http://etcd:2379/v3", "ftp://e:1"]
        {
            assert_eq!(text.parse::<EtcdEndpoint>(), Err(EtcdEndpointError), "{text}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let config = EtcdConfig {
            user: Some("root".to_owned()),
            password: Some(EtcdPassword::new("hunter2")),
            ..EtcdConfig::default()
        };
        assert_eq!(config.validate(), Ok(()));
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(EtcdPassword::new("hunter2").to_string(), "***");
    }

    #[test]
    fn what_belongs_together() {
        let endpoint = |text: &str| text.parse::<EtcdEndpoint>().expect("right");
        let config = EtcdConfig {
            endpoints: vec![endpoint("https://a:1"), endpoint("http://b:1")],
            lease_ttl: Duration::from_secs(1),
            user: Some("me".to_owned()),
            key: Some(PathBuf::from("key.pem")),
            ..EtcdConfig::default()
        };
        let faults = config.validate().expect_err("five are wrong").to_string();
        assert_eq!(
            faults,
            "endpoints: some begin with http:// and some with https://; write all alike\n\
             lease_ttl: \"1s\" is out of range; write \"2s\" to \"1h\"\n\
             password: it is missing, and there is a user\n\
             ca: it is missing, and without it no https endpoint can be trusted\n\
             cert: it is missing, and there is a key"
        );
    }
}
