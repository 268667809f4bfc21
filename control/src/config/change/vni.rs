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
    check_automatic(config, vni, new)?;
    if let Some(old) = old {
        config.distinguishers.remove(&old);
    }
    config.distinguishers.extend(new.map(|rd| (rd, vni)));
    Ok(())
}

/// Checks that no explicit route distinguisher equals the automatic one of another VNI: neither that
/// which a VNI is about to have, nor any other with the automatic one that the VNI will have. VNIs
/// above 65535 take a number that is free.
fn check_automatic(config: &Config, vni: Vni, new: Option<Rd>) -> Result<(), ChangeError> {
    let Some(router_id) = config.bgp.as_ref().map(|bgp| bgp.router_id) else {
        return Ok(());
    };
    match new {
        Some(rd) => {
            let number = rd.number_of(router_id).map(u32::from);
            let other = number.and_then(|number| Vni::new(number).ok());
            let other = other.filter(|other| {
                let content = config.vnis.get(other);
                *other != vni && content.is_some_and(|content| content.settings.evpn.rd.is_none())
            });
            let by = vni;
            other.map_or(Ok(()), |vni| Err(ChangeError::RdAutomatic { rd, vni, by }))
        }
        None => {
            let Some(rd) = automatic(config, vni) else {
                return Ok(());
            };
            let taken = config.distinguishers.get(&rd);
            let other = taken.filter(|other| **other != vni);
            other.map_or(Ok(()), |by| {
                Err(ChangeError::RdAutomatic { rd, vni, by: *by })
            })
        }
    }
}

/// True if a VNI of the configuration has this automatic route distinguisher.
fn is_automatic(config: &Config, rd: Rd) -> bool {
    let router_id = config.bgp.as_ref().map(|bgp| bgp.router_id);
    let number = router_id.and_then(|router_id| rd.number_of(router_id));
    let vni = number.and_then(|number| Vni::new(number.into()).ok());
    let content = vni.and_then(|vni| config.vnis.get(&vni));
    content.is_some_and(|content| content.settings.evpn.rd.is_none())
}

/// Checks all explicit route distinguishers against the automatic ones of another router ID.
pub(super) fn check_all_automatic(config: &Config) -> Result<(), ChangeError> {
    for (rd, vni) in &config.distinguishers {
        check_automatic(config, *vni, Some(*rd))?;
    }
    Ok(())
}

/// True if the route distinguisher of a VNI changes, and the one it has in `old`, explicit or
/// automatic, must be free before those of other VNIs are changed one after the other.
fn blocks_others(old: &Config, new: &Config, vni: Vni) -> bool {
    let of = |config: &Config| Some(config.vnis.get(&vni)?.settings.evpn.rd);
    match (of(old), of(new)) {
        (Some(was), Some(is)) if was != is => match was {
            Some(rd) => new.distinguishers.contains_key(&rd) || is_automatic(new, rd),
            // With the old or the new router ID.
            None => [old, new].into_iter().any(|config| {
                let rd = automatic(config, vni);
                let explicit = |rd| {
                    let all = [&old.distinguishers, &new.distinguishers];
                    all.into_iter().any(|of| of.contains_key(&rd))
                };
                rd.is_some_and(explicit)
            }),
        },
        _ => false,
    }
}

/// The automatic route distinguisher of a VNI that takes its own number.
fn automatic(config: &Config, vni: Vni) -> Option<Rd> {
    let number = u16::try_from(vni.get()).ok()?;
    Some(Rd::ipv4(config.bgp.as_ref()?.router_id, number))
}

/// A route distinguisher that no VNI of either configuration has, for the time between two changes:
/// one of AS 0, which is reserved (RFC 7607).
fn unused_distinguisher(old: &Config, new: &Config, vni: Vni) -> Option<Rd> {
    let of_as_zero = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        Rd([0, 0, 0, 0, a, b, c, d])
    };
    let used = |rd: &Rd| old.distinguishers.contains_key(rd) || new.distinguishers.contains_key(rd);
    // Above the numbers of the other VNIs, which take theirs at the same time.
    let step = Vni::MAX + 1;
    let mut candidates =
        (0..).map_while(|round: u32| step.checked_mul(round)?.checked_add(vni.get()));
    candidates.find_map(|number| Some(of_as_zero(number)).filter(|rd| !used(rd)))
}

/// The changes that lead from `old` to `new`, with all entries.
pub(in crate::config) fn diff(old: &Config, new: &Config, steps: &mut Steps) {
    for (vni, content) in new.vnis() {
        let Some(before) = old.vnis().get(vni) else {
            steps.additions.extend(content_changes(*vni, content));
            continue;
        };
        if before.settings() != content.settings() {
            if blocks_others(old, new, *vni) {
                let mut settings = before.settings().clone();
                settings.evpn.rd = unused_distinguisher(old, new, *vni);
                steps.removals.push(Change::VniSet {
                    vni: *vni,
                    settings,
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
