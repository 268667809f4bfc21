//! The difference of two configurations, as changes.

use super::change::kind::Steps;
use super::change::{Change, bgp_diff, vni_diff};
use super::control::CONTROL;
use super::key::restart_keys;
use super::model::Config;
use super::vtep::{AFXDP, VTEP};

/// What leads from one configuration to another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// Changes to be applied in this order: removals, then additions.
    pub changes: Vec<Change>,
    /// Keys whose new values require a restart of the daemon.
    pub restart: Vec<String>,
}

/// What leads from `old` to `new`. Without keys in `restart`, the changes applied to `old` give
/// `new`.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Diff {
    let mut steps = Steps::default();
    let kept = |vni| new.vnis().contains_key(vni);
    for vni in old.vnis().keys().filter(|vni| !kept(vni)) {
        steps.removals.push(Change::VniDel { vni: *vni });
    }
    if old.vtep().tunnel != new.vtep().tunnel {
        let tunnel = new.vtep().tunnel.clone();
        steps.additions.push(Change::Tunnel(tunnel));
    }
    bgp_diff(old, new, &mut steps);
    vni_diff(old, new, &mut steps);
    let mut changes = steps.removals;
    changes.append(&mut steps.additions);
    Diff {
        changes,
        restart: restart(old, new),
    }
}

fn restart(old: &Config, new: &Config) -> Vec<String> {
    let vtep = restart_keys(VTEP, old.vtep(), new.vtep()).map(|key| format!("vtep.{key}"));
    let afxdp = restart_keys(AFXDP, &old.vtep().afxdp, &new.vtep().afxdp)
        .map(|key| format!("vtep.afxdp.{key}"));
    let control =
        restart_keys(CONTROL, old.control(), new.control()).map(|key| format!("control.{key}"));
    vtep.chain(afxdp).chain(control).collect()
}
