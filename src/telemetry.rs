//! What a node tells about itself: logs, metrics and traces. Every layer but the pure ones may use it.

mod config;
mod durations;
pub mod field;
mod logging;
mod metrics;
pub mod trace;

pub use config::{LogConfig, LogFormat};
pub use logging::{LogGuard, LogLevel, LoggingError, init_logging};
pub use metrics::NodeMetrics;
