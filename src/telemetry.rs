//! What a node tells about itself: logs and metrics. Every layer but the pure ones may use it.

mod config;
pub mod field;
mod logging;
mod metrics;

pub use config::{LogConfig, LogFormat};
pub use logging::{LogGuard, LoggingError, init_logging};
pub use metrics::NodeMetrics;
