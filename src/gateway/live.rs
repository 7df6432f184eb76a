//! What the planes go by that may change while they run.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;

use super::{
    cors::{Cors, CorsOrigin},
    hosts::Hosts,
};

/// Settings of the planes that may change while they run.
#[derive(Clone, Debug, Default)]
pub struct PlaneSettings {
    /// The effective configuration, as the admin plane shows it; secrets are left out already.
    pub effective_config: Arc<str>,
    /// Whose pages may read answers of the api plane in a browser.
    pub cors_origins: Vec<CorsOrigin>,
    /// The names by which the admin plane may be called, beside addresses and `localhost`.
    pub admin_hosts: Vec<String>,
    /// The share, 0 to 1, of requests without a span that begin a trace.
    pub trace_sample: f64,
}

/// The settings in force. What each request asks for is read without a look at the rest.
#[derive(Debug)]
pub struct Live {
    /// The bits of a number.
    trace_sample: AtomicU64,
    has_cors: AtomicBool,
    current: ArcSwap<Current>,
}

#[derive(Debug)]
struct Current {
    effective_config: Arc<str>,
    cors: Cors,
    hosts: Hosts,
}

impl Current {
    fn new(settings: PlaneSettings) -> Self {
        Self {
            effective_config: settings.effective_config,
            cors: Cors::new(&settings.cors_origins),
            hosts: Hosts::new(settings.admin_hosts),
        }
    }
}

impl Live {
    /// These settings.
    pub fn new(settings: PlaneSettings) -> Self {
        Self {
            trace_sample: AtomicU64::new(settings.trace_sample.to_bits()),
            has_cors: AtomicBool::new(!settings.cors_origins.is_empty()),
            current: ArcSwap::from_pointee(Current::new(settings)),
        }
    }

    /// Puts others into force, for all requests from now on.
    pub fn replace(&self, settings: PlaneSettings) {
        self.trace_sample.store(settings.trace_sample.to_bits(), Ordering::Relaxed);
        let has_cors = !settings.cors_origins.is_empty();
        self.current.store(Arc::new(Current::new(settings)));
        self.has_cors.store(has_cors, Ordering::Release);
    }

    pub(super) fn trace_sample(&self) -> f64 {
        f64::from_bits(self.trace_sample.load(Ordering::Relaxed))
    }

    /// What `look` sees in the origins that are named; its default if there are none.
    pub(super) fn cors<T: Default>(&self, look: impl FnOnce(&Cors) -> T) -> T {
        if self.has_cors.load(Ordering::Acquire) { look(&self.current.load().cors) } else { T::default() }
    }

    /// What `look` sees in the names of the admin plane.
    pub(super) fn hosts<T>(&self, look: impl FnOnce(&Hosts) -> T) -> T {
        look(&self.current.load().hosts)
    }

    pub(super) fn effective_config(&self) -> Arc<str> {
        Arc::clone(&self.current.load().effective_config)
    }
}
