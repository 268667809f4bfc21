//! Flooding: `flood` of `[[vni]]`, `flood.add` and `flood.del`.

use vtep_dataplane::addr::{Vni, VtepAddr};

use super::kind::{EntryKind, Steps, Verb, VniLoader};
use super::{Change, ChangeError, Undo};
use crate::config::diagnostic::Diagnostics;
use crate::config::group::{FloodTarget, GroupAddr, flood_target};
use crate::config::model::{Config, VniConfig};
use crate::config::table::TableReader;
use crate::config::write::{array, line, quoted};

/// The head-end replication list, or the multicast group instead.
pub(super) struct FloodList;

impl EntryKind for FloodList {
    fn name(&self) -> &'static str {
        "flood"
    }

    fn load(&self, table: &mut TableReader<'_>, loader: &mut VniLoader<'_>) {
        for (line, target) in table.one_or_list("flood", loader.diagnostics, flood_target) {
            let change = |vni| match target {
                FloodTarget::Vtep(vtep) => Change::FloodAdd { vni, vtep },
                FloodTarget::Group(group) => Change::GroupAdd { vni, group },
            };
            if let Err(error) = loader.apply(line, change) {
                table.reject_at(line, "flood", error, loader.diagnostics);
            }
        }
    }

    fn request(
        &self,
        verb: Verb,
        vni: Option<Vni>,
        table: &mut TableReader<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Change> {
        let target = table.required("vtep", "\"203.0.113.9\"", diagnostics, flood_target);
        let (vni, target) = vni.zip(target)?;
        Some(match (target, verb) {
            (FloodTarget::Vtep(vtep), Verb::Add) => Change::FloodAdd { vni, vtep },
            (FloodTarget::Vtep(vtep), Verb::Del) => Change::FloodDel { vni, vtep },
            (FloodTarget::Group(group), Verb::Add) => Change::GroupAdd { vni, group },
            (FloodTarget::Group(group), Verb::Del) => Change::GroupDel { vni, group },
        })
    }

    fn write_key(&self, vni: &VniConfig, out: &mut String) {
        if !vni.flood().is_empty() {
            line(out, "flood", array(vni.flood().iter().map(quoted)));
        }
        if let Some(group) = vni.group() {
            line(out, "flood", quoted(group));
        }
    }

    fn diff(&self, vni: Vni, old: &VniConfig, new: &VniConfig, steps: &mut Steps) {
        for vtep in old.flood().difference(new.flood()) {
            steps.removals.push(Change::FloodDel { vni, vtep: *vtep });
        }
        for vtep in new.flood().difference(old.flood()) {
            steps.additions.push(Change::FloodAdd { vni, vtep: *vtep });
        }
        if old.group() != new.group() {
            let removed = old.group().map(|group| Change::GroupDel { vni, group });
            steps.removals.extend(removed);
            let added = new.group().map(|group| Change::GroupAdd { vni, group });
            steps.additions.extend(added);
        }
    }
}

pub(super) fn add(config: &mut Config, vni: Vni, vtep: VtepAddr) -> Result<Undo, ChangeError> {
    config.check_remote(vtep)?;
    let content = config.vni_mut(vni)?;
    if let Some(group) = content.group {
        return Err(ChangeError::GroupOrList { group, vni });
    }
    if !content.flood.insert(vtep) {
        return Err(ChangeError::FloodExists { vtep, vni });
    }
    Ok(Undo::Change(Change::FloodDel { vni, vtep }))
}

pub(super) fn del(config: &mut Config, vni: Vni, vtep: VtepAddr) -> Result<Undo, ChangeError> {
    if !config.vni_mut(vni)?.flood.remove(&vtep) {
        return Err(ChangeError::NoFlood { vtep, vni });
    }
    Ok(Undo::Change(Change::FloodAdd { vni, vtep }))
}

pub(super) fn add_group(
    config: &mut Config,
    vni: Vni,
    group: GroupAddr,
) -> Result<Undo, ChangeError> {
    let own = config.vtep.addresses;
    let ours = if group.is_v6() { own.v6 } else { own.v4 };
    if !own.is_empty() && ours.is_none() {
        return Err(ChangeError::GroupFamily(group));
    }
    let content = config.vni_mut(vni)?;
    if content.group.is_some() || !content.flood.is_empty() {
        return Err(ChangeError::GroupOrList {
            group: content.group.unwrap_or(group),
            vni,
        });
    }
    content.group = Some(group);
    Ok(Undo::Change(Change::GroupDel { vni, group }))
}

pub(super) fn del_group(
    config: &mut Config,
    vni: Vni,
    group: GroupAddr,
) -> Result<Undo, ChangeError> {
    let current = &mut config.vni_mut(vni)?.group;
    current
        .take_if(|found| *found == group)
        .ok_or(ChangeError::NoGroup { group, vni })?;
    Ok(Undo::Change(Change::GroupAdd { vni, group }))
}
