//! The secret that nodes share: who seals, who verifies, and what is said where there is none.

use std::sync::Arc;

use crate::{
    access::{Sealer, Verifier},
    config::Config,
};

/// What nodes that share a secret know each other by; nothing where they share none.
pub(super) struct Seals {
    pub(super) sealer: Option<Arc<Sealer>>,
    pub(super) verifier: Option<Arc<Verifier>>,
}

impl Seals {
    /// Reads the secret. `since_ms` is the Unix time at which the node began to listen.
    ///
    /// # Errors
    /// If a file with a secret can't be read, or holds none.
    pub(super) fn new(config: &Config, since_ms: u64) -> anyhow::Result<Self> {
        let Some(secrets) = config.node.seal.load()? else {
            if config.node.allow_anyone {
                let listen = config.node.listen;
                tracing::warn!(%listen, "node.allow_anyone is set: whoever reaches the peer plane may read and drop keys");
            }
            return Ok(Self { sealer: None, verifier: None });
        };
        Ok(Self {
            sealer: Some(Arc::new(Sealer::new(&secrets)?)),
            verifier: Some(Arc::new(Verifier::new(&secrets, config.node.advertise.as_str(), since_ms))),
        })
    }
}
