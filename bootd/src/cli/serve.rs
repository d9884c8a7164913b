//! `bootd serve`.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::EnvFilter;

use super::Failure;
use super::args::Serve;
use crate::app;
use crate::config::{Config, ConfigError};
use crate::machine::Machine;

pub(super) fn run(serve: &Serve) -> Result<(), Failure> {
    let config =
        Config::load(&serve.server.flags(), &Machine::look()).map_err(|e: ConfigError| Failure::new(e))?;
    log(&config.log);
    tracing::info!("bootd {} starts, data in {}", env!("CARGO_PKG_VERSION"), config.data.display());
    app::run(config).map_err(|e| {
        tracing::error!("{e}");
        Failure::told()
    })
}

/// Logs to standard error. The journal of systemd adds the time by itself.
fn log(directives: &str) {
    let filter = EnvFilter::builder().parse_lossy(directives);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
}
