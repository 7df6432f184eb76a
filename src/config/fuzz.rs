//! What must hold of configurations, whatever is in the file. The fuzz targets call it, through `crate::fuzz`.

use super::Config;
use crate::settings::{Effective, Faults, Settings};

/// The faults are as many as the file has lines at most, and those of the keys that it has to have; each is some lines.
const FAULTS_BYTES_MAX: usize = 1 << 20;

/// A configuration file's text.
///
/// # Panics
/// If what must hold does not.
pub(crate) fn fuzz_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match load(text) {
        Err(faults) => {
            let told = faults.to_string();
            assert!(!told.is_empty() && told.len() <= FAULTS_BYTES_MAX + 64 * text.len());
        }
        Ok((config, effective)) => {
            assert_eq!(config.validate().map_err(|faults| faults.to_string()), Ok(()), "loaded and refused");
            let shown = effective.to_string();
            if effective.entries().iter().all(|entry| !entry.is_redacted) {
                let again = load(&shown).map_err(|faults| faults.to_string());
                let (again, _) = again.expect("what is shown as in force can be loaded");
                assert!(again == config, "{shown}");
            }
        }
    }
}

fn load(text: &str) -> Result<(Config, Effective), Faults> {
    let mut settings = Settings::new();
    settings.add_text("ggcache.toml", text)?;
    let config = Config::read(&mut settings, None, None);
    Ok((config, settings.finish()?))
}
