//! Requests of the control socket's clients, and reload at SIGHUP.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::api::action::Action;
use crate::api::dispatch::Handler;
use crate::api::message::{
    ApiError, ConfigCheck, ConfigDiff, ConfigRequest, ConfigSave, ConfigSource, SaveTarget, code,
};
use crate::api::show::ShowRequest;
use crate::config::{self, Change, Config, Diagnostics, Diff, HostFacts, InterfaceFacts, Loaded};
use crate::engine::{Engine, EngineError};
use crate::show::Show;
use crate::underlay::Underlay;

/// Connects the control socket to the engine.
#[derive(Debug)]
pub struct ApiHandler {
    engine: Engine,
    show: Show,
    /// The file that the daemon was started with.
    path: PathBuf,
}

/// Facts about this host, from netlink.
#[derive(Debug, Clone, Copy)]
pub struct NetlinkHost<'a>(pub &'a Underlay);

impl HostFacts for NetlinkHost<'_> {
    fn interface(&self, name: &str) -> Option<InterfaceFacts> {
        self.0
            .link(name)
            .map(|link| InterfaceFacts { mtu: link.mtu })
    }

    fn has_address(&self, address: IpAddr) -> bool {
        self.0.has_address(address)
    }

    fn cores(&self) -> usize {
        // The CPUs present, by the highest number: on one that this process may not use, as under
        // taskset(1), a worker runs unpinned.
        let present =
            std::fs::read_to_string("/sys/devices/system/cpu/present").unwrap_or_default();
        last_of(&present).map_or(1, |last| last + 1)
    }
}

/// The highest number of a list in the kernel's format, such as `0-3,6`
/// (`cpumap_print_to_pagebuf`).
fn last_of(list: &str) -> Option<usize> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Batch(error) => error.into(),
            EngineError::Interface { index, ref error } => {
                Self::refused(error.to_string()).at(index)
            }
            EngineError::Table { index, ref error } => Self::refused(error.to_string()).at(index),
            other => Self::new(code::INTERNAL, other.to_string()),
        }
    }
}

impl ApiHandler {
    /// A handler for an engine that was started from `path`.
    #[must_use]
    pub fn new(engine: Engine, path: PathBuf) -> Self {
        Self {
            engine,
            show: Show::default(),
            path,
        }
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, to poll.
    pub const fn engine_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The engine, to stop.
    #[must_use]
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// Applies the daemon's file again. Errors are logged; then nothing changes.
    pub fn reload(&mut self) {
        match self.apply(&ConfigSource::default()) {
            Ok(done) => tracing::info!(changes = done.changes.len(), "configuration applied"),
            Err(error) => tracing::error!(%error, "configuration rejected; nothing has changed"),
        }
    }

    /// Loads a configuration and checks it against this host.
    fn load(&self, source: &ConfigSource) -> Result<(Config, Diagnostics), ApiError> {
        let loaded: Loaded = match &source.text {
            Some(text) => {
                let name = source.name.as_deref().unwrap_or("configuration");
                config::parse_request(name, text, self.engine.config())?
            }
            None => config::load(&self.path)?,
        };
        let diagnostics = loaded.check_host(&NetlinkHost(self.engine.underlay()));
        if diagnostics.has_errors() {
            return Err(diagnostics.into());
        }
        Ok((loaded.config, diagnostics))
    }

    fn diff(&self, source: &ConfigSource) -> Result<Diff, ApiError> {
        let (wanted, _) = self.load(source)?;
        Ok(config::diff(self.engine.config(), &wanted))
    }

    fn apply(&mut self, source: &ConfigSource) -> Result<ConfigDiff, ApiError> {
        let diff = self.diff(source)?;
        if !diff.restart.is_empty() {
            let keys = diff.restart.join(", ");
            let message =
                format!("{keys}: a new value requires a restart of vtepd; nothing was applied");
            return Err(ApiError::refused(message));
        }
        self.engine.apply_batch(&diff.changes, Instant::now())?;
        Ok(ConfigDiff::from(&diff))
    }

    fn save(&self, target: &SaveTarget) -> Result<ConfigSave, ApiError> {
        let text = config::save(self.engine.config());
        if target.print {
            return Ok(ConfigSave {
                path: None,
                text: Some(text),
            });
        }
        replace(&self.path, &text).map_err(|error| {
            ApiError::refused(format!(
                "{}: can't be written: {error}",
                self.path.display()
            ))
        })?;
        Ok(ConfigSave {
            path: Some(self.path.display().to_string()),
            text: None,
        })
    }
}

/// Replaces a file atomically: writes a temporary file next to it, syncs it, renames it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

impl Handler for ApiHandler {
    fn change(&mut self, changes: Vec<Change>) -> Result<(), ApiError> {
        Ok(self.engine.apply_batch(&changes, Instant::now())?)
    }

    fn show(&mut self, request: &ShowRequest) -> Result<Value, ApiError> {
        self.show.answer(&self.engine, request, Instant::now())
    }

    fn act(&mut self, action: &Action) -> Result<Value, ApiError> {
        let now = Instant::now();
        let engine = &mut self.engine;
        let neighbor = match action {
            Action::MacMove(asked) => {
                engine.mac_move(asked, now)?;
                return Ok(json!({}));
            }
            Action::MacUnfreeze(asked) => {
                return if engine.mac_unfreeze(asked.vni, asked.mac, now) {
                    Ok(json!({}))
                } else {
                    Err(ApiError::refused(format!(
                        "{} of VNI {} is not frozen",
                        asked.mac, asked.vni
                    )))
                };
            }
            Action::BgpClear(asked) => (asked.neighbor, engine.bgp_clear(asked, now)),
            Action::BgpShutdown(asked) => (asked.neighbor, engine.bgp_shutdown(asked, now)),
            Action::BgpEnable(asked) => (asked.neighbor, engine.bgp_enable(asked.neighbor, now)),
        };
        match neighbor {
            (_, true) => Ok(json!({})),
            (_, false) if engine.config().bgp().is_none() => {
                Err(ApiError::refused(config::ChangeError::NoBgp.to_string()))
            }
            (address, false) => Err(ApiError::refused(format!(
                "unknown BGP neighbor {address}; see `show bgp summary`"
            ))),
        }
    }

    fn config(&mut self, request: &ConfigRequest) -> Result<Value, ApiError> {
        let answer = match request {
            ConfigRequest::Check(source) => {
                let (_, diagnostics) = self.load(source)?;
                let warnings = diagnostics.list().iter().map(ToString::to_string).collect();
                serde_json::to_value(ConfigCheck { warnings })
            }
            ConfigRequest::Diff(source) => {
                serde_json::to_value(ConfigDiff::from(&self.diff(source)?))
            }
            ConfigRequest::Apply(source) => serde_json::to_value(self.apply(source)?),
            ConfigRequest::Save(target) => serde_json::to_value(self.save(target)?),
        };
        answer.map_err(|error| ApiError::new(code::INTERNAL, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_core_of_a_list() {
        for (list, last) in [
            ("0\n", Some(0)),
            ("0-3\n", Some(3)),
            ("0-3,6\n", Some(6)),
            ("", None),
        ] {
            assert_eq!(last_of(list), last, "{list:?}");
        }
    }
}
