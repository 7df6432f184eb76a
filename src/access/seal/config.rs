//! The secret that nodes share: its keys in `[node]`, and where it is read from.

use std::{fmt, fs::File, io::Read as _, path::PathBuf};

use ring::hmac;
use thiserror::Error;

use crate::settings::{Checks, Faults, Section};

/// As many characters as 32 random bytes have in base64, less some; nobody guesses as many.
const SECRET_CHARS_MIN: usize = 32;
const SECRET_BYTES_MAX: u64 = 4096;
const TOO_SHORT: &str =
    "it has less than 32 characters; write more, such as what `openssl rand -base64 32` prints";

/// A secret that nodes share. `Debug` and `Display` show three asterisks.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerSecret(String);

impl PeerSecret {
    /// Takes the secret as it is.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    fn is_long_enough(&self) -> bool {
        self.0.chars().count() >= SECRET_CHARS_MIN
    }

    pub(super) fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }
}

impl fmt::Display for PeerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the secret is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealConfig {
    /// The secret itself.
    pub secret: Option<PeerSecret>,
    /// A file that holds it, in place of it; white space around it does not count.
    pub secret_file: Option<PathBuf>,
    /// Another secret, by which what others sealed is accepted too, while the nodes change from it to the new one, or
    /// before they change to it.
    pub secret_previous: Option<PeerSecret>,
    /// A file that holds that one.
    pub secret_previous_file: Option<PathBuf>,
}

/// The secrets, once they are read.
#[derive(Clone, Debug)]
pub struct Secrets {
    current: PeerSecret,
    previous: Option<PeerSecret>,
}

/// Why a secret can't be used. Nothing of its text is shown.
#[derive(Debug, Error)]
pub enum SecretsError {
    #[error("the system gives no random number")]
    Random,
    #[error("{0}: the file {1:?} can't be read")]
    File(&'static str, PathBuf, #[source] std::io::Error),
    #[error(
        "{0}: the file {1:?} has more than {SECRET_BYTES_MAX} bytes, and holds something else than a secret"
    )]
    TooLong(&'static str, PathBuf),
    #[error("{0}: the file {1:?}: {TOO_SHORT}")]
    TooShort(&'static str, PathBuf),
}

impl SealConfig {
    /// Reads the keys of `[node]` that are about the secret, and checks them.
    pub fn read(section: &mut Section<'_>) -> Self {
        let config = Self {
            secret: section.optional_secret("secret", PeerSecret::new),
            secret_file: section.optional_string("secret_file").map(PathBuf::from),
            secret_previous: section.optional_secret("secret_previous", PeerSecret::new),
            secret_previous_file: section.optional_string("secret_previous_file").map(PathBuf::from),
        };
        section.check_sound(config.validate());
        config
    }

    /// Whether nodes share a secret.
    pub const fn is_on(&self) -> bool {
        self.secret.is_some() || self.secret_file.is_some()
    }

    /// Whether every value lies within its bounds, and they agree with each other.
    ///
    /// # Errors
    /// Every value that is wrong, under its key in the section.
    pub fn validate(&self) -> Result<(), Faults> {
        let mut checks = Checks::new();
        let has_previous = self.secret_previous.is_some() || self.secret_previous_file.is_some();
        for (key, secret, file_key, file) in [
            ("secret", &self.secret, "secret_file", &self.secret_file),
            ("secret_previous", &self.secret_previous, "secret_previous_file", &self.secret_previous_file),
        ] {
            if secret.as_ref().is_some_and(|secret| !secret.is_long_enough()) {
                checks.fault(key, TOO_SHORT);
            }
            if secret.is_some() && file.is_some() {
                checks.fault(file_key, format!("there is {key} as well; write one of the two"));
            }
            if file.as_ref().is_some_and(|file| file.as_os_str().is_empty()) {
                checks.fault(file_key, "it is empty; write the name of a file");
            }
        }
        if has_previous && !self.is_on() {
            checks.fault("secret", "it is missing, and there is a previous one");
        }
        checks.finish()
    }

    /// The secrets, from here or from their files; `None` where nodes share none.
    ///
    /// # Errors
    /// If a file can't be read, or holds no secret.
    pub fn load(&self) -> Result<Option<Secrets>, SecretsError> {
        let current = load("node.secret_file", self.secret.as_ref(), self.secret_file.as_ref())?;
        let previous = load(
            "node.secret_previous_file",
            self.secret_previous.as_ref(),
            self.secret_previous_file.as_ref(),
        )?;
        Ok(current.map(|current| Secrets { current, previous }))
    }
}

impl Secrets {
    /// Secrets that were come by elsewhere.
    pub const fn new(current: PeerSecret, previous: Option<PeerSecret>) -> Self {
        Self { current, previous }
    }

    /// Whether what is sealed under another secret is accepted too.
    pub const fn has_previous(&self) -> bool {
        self.previous.is_some()
    }

    pub(super) const fn current(&self) -> &PeerSecret {
        &self.current
    }

    /// The one that is used to seal first.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &PeerSecret> {
        [&self.current].into_iter().chain(&self.previous)
    }
}

fn load(
    key: &'static str,
    secret: Option<&PeerSecret>,
    file: Option<&PathBuf>,
) -> Result<Option<PeerSecret>, SecretsError> {
    let (None, Some(path)) = (secret, file) else { return Ok(secret.cloned()) };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| SecretsError::File(key, path.clone(), error))?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretsError::TooLong(key, path.clone()));
    }
    let secret = PeerSecret::new(text.trim());
    if secret.is_long_enough() { Ok(Some(secret)) } else { Err(SecretsError::TooShort(key, path.clone())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(letter: &str) -> PeerSecret {
        PeerSecret::new(letter.repeat(SECRET_CHARS_MIN))
    }

    #[test]
    fn what_belongs_together() {
        assert_eq!(SealConfig::default().validate(), Ok(()));
        let wrong = SealConfig {
            secret: Some(PeerSecret::new("hunter2")),
            secret_file: Some(PathBuf::from("secret")),
            ..SealConfig::default()
        };
        let faults = wrong.validate().expect_err("two are wrong").to_string();
        assert!(!faults.contains("hunter2"), "{faults}");
        assert_eq!(
            faults,
            format!("secret: {TOO_SHORT}\nsecret_file: there is secret as well; write one of the two")
        );
        let wrong = SealConfig { secret_previous: Some(secret("a")), ..SealConfig::default() };
        let faults = wrong.validate().expect_err("nothing is sealed").to_string();
        assert_eq!(faults, "secret: it is missing, and there is a previous one");
        assert!(!format!("{wrong:?}").contains("aaa"));
    }

    #[test]
    fn a_file_s_secret_is_read_and_never_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let config = SealConfig { secret_file: Some(path.clone()), ..SealConfig::default() };
        assert!(matches!(config.load(), Err(SecretsError::File("node.secret_file", ..))));
        std::fs::write(&path, format!("\n {} \n", "s".repeat(40))).expect("a file");
        let secrets = config.load().expect("a secret").expect("one is configured");
        assert_eq!(secrets.current().0.len(), 40);
        for (text, expected) in [("hunter2".to_owned(), "less than 32"), ("x".repeat(5000), "more than 4096")]
        {
            std::fs::write(&path, &text).expect("a file");
            let error = config.load().expect_err("no secret").to_string();
            assert!(error.contains(expected) && !error.contains(&text), "{error}");
        }
        assert!(SealConfig::default().load().expect("nothing to read").is_none());
    }
}
