//! Changes of VNIs themselves.

use vtep_dataplane::addr::Vni;

use super::kind::Steps;
use super::{Change, ChangeError, KINDS, MAX_VNIS, Undo};
use crate::bgp::wire::Rd;
use crate::config::model::{Config, VniConfig};
use crate::config::vni::VniSettings;

pub(super) fn add(
    config: &mut Config,
    vni: Vni,
    settings: VniSettings,
) -> Result<Undo, ChangeError> {
    if config.vnis.contains_key(&vni) {
        return Err(ChangeError::VniExists(vni));
    }
    if config.vnis.len() >= MAX_VNIS {
        return Err(ChangeError::TooManyVnis);
    }
    set_distinguisher(config, vni, None, settings.evpn.rd)?;
    config.vnis.insert(
        vni,
        VniConfig {
            settings,
            ..VniConfig::default()
        },
    );
    Ok(Undo::Change(Change::VniDel { vni }))
}

pub(super) fn set(
    config: &mut Config,
    vni: Vni,
    settings: VniSettings,
) -> Result<Undo, ChangeError> {
    let before = config.vni_mut(vni)?.settings.evpn.rd;
    set_distinguisher(config, vni, before, settings.evpn.rd)?;
    let old = std::mem::replace(&mut config.vni_mut(vni)?.settings, settings);
    Ok(Undo::Change(Change::VniSet { vni, settings: old }))
}

pub(super) fn del(config: &mut Config, vni: Vni) -> Result<Undo, ChangeError> {
    let content = config.vnis.remove(&vni).ok_or(ChangeError::NoVni(vni))?;
    for key in content.ports.keys() {
        config.unindex_port(key);
    }
    if let Some(rd) = content.settings.evpn.rd {
        config.distinguishers.remove(&rd);
    }
    Ok(Undo::Vni(vni, Box::new(content)))
}

/// Undoes [`del`].
pub(super) fn restore(config: &mut Config, vni: Vni, content: VniConfig) {
    for key in content.ports.keys() {
        config.index_port(key, vni);
    }
    config
        .distinguishers
        .extend(content.settings.evpn.rd.map(|rd| (rd, vni)));
    config.vnis.insert(vni, content);
}

/// Moves the route distinguisher of a VNI from `old` to `new` in the index. Routes of two VNIs with
/// the same one would have equal keys.
fn set_distinguisher(
    config: &mut Config,
    vni: Vni,
    old: Option<Rd>,
    new: Option<Rd>,
) -> Result<(), ChangeError> {
    if let Some(rd) = new {
        match config.distinguishers.get(&rd) {
            Some(other) if *other != vni => {
                return Err(ChangeError::RdTwice { rd, vni: *other });
            }
            _ => {}
        }
    }
    if let Some(old) = old {
        config.distinguishers.remove(&old);
    }
    config.distinguishers.extend(new.map(|rd| (rd, vni)));
    Ok(())
}

/// The changes that lead from `old` to `new`, with all entries.
pub(in crate::config) fn diff(old: &Config, new: &Config, steps: &mut Steps) {
    for (vni, content) in new.vnis() {
        let Some(before) = old.vnis().get(vni) else {
            steps.additions.extend(content_changes(*vni, content));
            continue;
        };
        if before.settings() != content.settings() {
            // Another VNI may take over its route distinguisher, which must be free before.
            let (was, is) = (before.settings().evpn.rd, content.settings().evpn.rd);
            if was != is && was.is_some_and(|rd| new.distinguishers.contains_key(&rd)) {
                let mut free = before.settings().clone();
                free.evpn.rd = None;
                steps.removals.push(Change::VniSet {
                    vni: *vni,
                    settings: free,
                });
            }
            steps.additions.push(Change::VniSet {
                vni: *vni,
                settings: content.settings().clone(),
            });
        }
        for kind in KINDS {
            kind.diff(*vni, before, content, steps);
        }
    }
}

/// The changes that add a VNI with all its content, in order.
#[must_use]
pub fn content_changes(vni: Vni, content: &VniConfig) -> Vec<Change> {
    let mut steps = Steps::default();
    steps.additions.push(Change::VniAdd {
        vni,
        settings: content.settings().clone(),
    });
    let empty = VniConfig::default();
    for kind in KINDS {
        kind.diff(vni, &empty, content, &mut steps);
    }
    steps.additions
}
