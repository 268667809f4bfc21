//! Requests of the control socket's clients, and reload at SIGHUP.

mod preflight;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Value, json};

pub use self::preflight::{StartHost, underlay_kinds};
use crate::api::action::{Action, BgpShutdown};
use crate::api::dispatch::Handler;
use crate::api::message::{
    ApiError, ConfigCheck, ConfigDiff, ConfigRequest, ConfigSave, ConfigSource, SaveTarget, code,
};
use crate::api::show::ShowRequest;
use crate::bgp::wire::MAX_SHUTDOWN_TEXT;
use crate::config::{
    self, Change, Config, Diagnostics, Diff, Finding, HostFacts, InterfaceFacts, Loaded, Missing,
};
use crate::engine::{Engine, EngineError, underlay_config};
use crate::show::{Show, ShowProgress};
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

    fn tenant_obstacle(&self, name: &str) -> Option<(String, bool)> {
        let obstacle = self.0.tenant_obstacle(name)?;
        Some((obstacle.reason, obstacle.autoconfigured))
    }

    fn underlay_obstacle(&self, name: &str) -> Option<String> {
        self.0.underlay_obstacle(name)
    }

    fn findings(&self, config: &Config) -> Vec<Finding> {
        let problems = self.0.problems(&underlay_config(config.vtep()));
        let ports = config.vnis().values().flat_map(|vni| vni.ports().keys());
        let names: BTreeSet<_> = ports.map(|port| port.interface.as_str()).collect();
        let tenants = names.iter().flat_map(|name| self.0.bypassed_on(name, true));
        let underlay = config.vtep().underlay.iter();
        let underlay = underlay.flat_map(|name| self.0.bypassed_on(name.as_str(), false));
        let problems = problems.into_iter().chain(underlay);
        problems
            .map(|text| ("vtep.underlay", text))
            .chain(tenants.map(|text| ("vni.port.interface", text)))
            .map(|(key, text)| Finding::warning(key, text))
            .collect()
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
            Err(error) => {
                for line in error.message.lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("configuration rejected; nothing has changed");
            }
        }
    }

    /// Loads a configuration and checks it against this host, all in one round.
    fn load(
        &self,
        source: &ConfigSource,
        host: &dyn HostFacts,
        missing: Missing,
    ) -> Result<(Loaded, Diagnostics), ApiError> {
        let (loaded, diagnostics) = match &source.text {
            Some(text) => {
                let name = source.name.as_deref().unwrap_or("configuration");
                let running = self.engine.config();
                config::parse_request_on((name, text), running, host, missing)
            }
            None => config::load_on(&self.path, host, missing),
        };
        match loaded {
            Some(loaded) => Ok((loaded, diagnostics)),
            None => Err(diagnostics.into()),
        }
    }

    /// Loads a configuration that is to be applied now.
    fn load_to_apply(&self, source: &ConfigSource) -> Result<Loaded, ApiError> {
        let host = NetlinkHost(self.engine.underlay());
        Ok(self.load(source, &host, Missing::Awaited)?.0)
    }

    /// Refuses ports that would be added with an interface that can't be a tenant port, as applying
    /// them does.
    fn check_new_ports(&self, loaded: &Loaded, diff: &Diff) -> Result<(), ApiError> {
        let running: BTreeSet<_> = self.engine.config().port_interfaces().collect();
        for change in &diff.changes {
            let Change::PortAdd { port, .. } = change else {
                continue;
            };
            let name = &port.key.interface;
            if running.contains(name) {
                continue;
            }
            let obstacle = self.engine.underlay().tenant_obstacle(name.as_str());
            if let Some(obstacle) = obstacle {
                let refused = loaded.refuse(change, "interface", obstacle.reason);
                return Err(refusal(refused));
            }
        }
        Ok(())
    }

    /// The difference to the running configuration, as changes and as it is shown.
    fn compare(&self, wanted: &Config) -> (Diff, ConfigDiff) {
        let running = self.engine.config();
        let diff = config::diff(running, wanted);
        let described = config::describe(running, wanted, &diff);
        let shown = ConfigDiff {
            changes: described.lines,
            restart: diff.restart.clone(),
            resets: described.resets.into_iter().collect(),
        };
        (diff, shown)
    }

    fn apply(&mut self, source: &ConfigSource) -> Result<ConfigDiff, ApiError> {
        let loaded = self.load_to_apply(source)?;
        let (diff, shown) = self.compare(&loaded.config);
        if !diff.restart.is_empty() {
            let message = "a new value takes a restart of vtepd; nothing was applied";
            let refused = diff
                .restart
                .into_iter()
                .map(|key| (key, message.to_owned()));
            return Err(refusal(loaded.refuse_keys(refused)));
        }
        self.engine
            .apply_batch(&diff.changes, Instant::now())
            .map_err(|error| match error.refused_change() {
                Some((index, field, message)) => {
                    refusal(loaded.refuse(&diff.changes[index], field, message))
                }
                None => error.into(),
            })?;
        Ok(shown)
    }

    fn save(&self, target: &SaveTarget) -> Result<ConfigSave, ApiError> {
        let text = config::save(self.engine.config());
        if target.print {
            return Ok(ConfigSave {
                path: None,
                text: Some(text),
            });
        }
        config::replace_file(&self.path, &text).map_err(|error| {
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

/// Checks the length of a shutdown communication.
fn check_message(asked: &BgpShutdown) -> Result<(), ApiError> {
    let length = asked.message.as_deref().map_or(0, str::len);
    if length <= MAX_SHUTDOWN_TEXT {
        return Ok(());
    }
    let message = format!(
        "message: {length} bytes are too many: must be at most {MAX_SHUTDOWN_TEXT} (RFC 9003)"
    );
    Err(ApiError::new(code::INVALID_PARAMS, message).field("message"))
}

/// The error for a configuration that is valid and refused.
fn refusal(diagnostics: Diagnostics) -> ApiError {
    ApiError {
        code: code::REFUSED,
        ..ApiError::from(diagnostics)
    }
}

impl Handler for ApiHandler {
    fn change(&mut self, changes: Vec<Change>) -> Result<(), ApiError> {
        Ok(self.engine.apply_batch(&changes, Instant::now())?)
    }

    type Progress = ShowProgress;

    fn show(
        &mut self,
        request: &ShowRequest,
        progress: &mut ShowProgress,
    ) -> Option<Result<String, ApiError>> {
        self.show
            .answer(&self.engine, request, progress, Instant::now())
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
                if !engine.config().vnis().contains_key(&asked.vni) {
                    let message = config::ChangeError::NoVni(asked.vni).to_string();
                    return Err(ApiError::refused(message).field("vni"));
                }
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
            Action::BgpShutdown(asked) => {
                check_message(asked)?;
                (asked.neighbor, engine.bgp_shutdown(asked, now))
            }
            Action::BgpEnable(asked) => (asked.neighbor, engine.bgp_enable(asked, now)),
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
                let host = NetlinkHost(self.engine.underlay());
                let host = StartHost::of_running(host, self.engine.config());
                let (_, diagnostics) = self.load(source, &host, Missing::Refused)?;
                let warnings = diagnostics.lines().collect();
                serde_json::to_value(ConfigCheck { warnings })
            }
            ConfigRequest::Diff(source) => {
                let loaded = self.load_to_apply(source)?;
                let (diff, shown) = self.compare(&loaded.config);
                self.check_new_ports(&loaded, &diff)?;
                serde_json::to_value(shown)
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
