//! Local MACs: their mobility sequences, and conflicts with other VTEPs that announce them (RFC
//! 7432 section 15).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use vtep_dataplane::addr::{HostMac, Vni, VtepAddr};
use vtep_dataplane::wire::nd::NdFlags;

use super::duplicate::Direction;
use super::mobility::{Claim, MacCandidate, sequence_above};
use super::sequence_memory::Origin;
use super::store::flag;
use super::{EvpnMacTable, MacTimer};
use crate::evpn::config::{LocalKind, LocalMac};
use crate::evpn::event::EvpnEvent;
use crate::evpn::shared::{ChangeCause, SharedState};
use crate::evpn::status::RouteStatus;
use crate::rib::{AttrId, BestPath, Ineligible, Mobility, compare_sequence, next_sequence};

/// Why a MAC can't be local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocalMacError {
    /// The VNI is not configured.
    #[error("VNI {0} is not configured; `show vni` lists the VNIs")]
    UnknownVni(Vni),
    /// The MAC of an address is not local.
    #[error("{1} has no local MAC entry in VNI {0}; add the MAC first")]
    UnknownMac(Vni, HostMac),
    /// Duplicate detection has frozen the MAC.
    #[error("{1} in VNI {0} is frozen because it moved too often; attach it, or unfreeze it")]
    Frozen(Vni, HostMac),
    /// Its VTEP announces that it never moves.
    #[error("{1} in VNI {0} is sticky at another VTEP; attach it if it is really here")]
    Sticky(Vni, HostMac),
    /// Its VTEP announces it as a default gateway's.
    #[error(
        "{1} in VNI {0} is a default gateway's at another VTEP; attach it if it is really here"
    )]
    Gateway(Vni, HostMac),
    /// The VNI has as many MACs from routes and learning as it may have.
    #[error("VNI {0} has {1} MACs from routes and learning (max-macs)")]
    Limit(Vni, u32),
    /// The MAC has a static entry.
    #[error("{1} in VNI {0} has a static entry; remove that first")]
    Static(Vni, HostMac),
}

/// A local MAC.
#[derive(Debug)]
pub(super) struct LocalMacState {
    kind: LocalKind,
    pub(super) sticky: bool,
    pub(super) sequence: u32,
    /// The addresses that its routes announce, with their flags.
    pub(super) addresses: BTreeMap<IpAddr, Option<NdFlags>>,
    /// All addresses that it claims; another host may have some of them.
    pub(super) claims: BTreeSet<IpAddr>,
    /// The VTEP that contests it and its sequence, as last reported.
    contested: Option<(VtepAddr, u32)>,
    anycast: bool,
    /// Claims that followed from the first table of a peer.
    initial_claims: u8,
}

/// Claims of a MAC from the first tables of peers that are made at once and do not count as moves:
/// routes from before a restart may arrive in any order.
const INITIAL_CLAIMS: u8 = 16;

impl LocalMacState {
    /// True if a claim that `cause` leads to is made at once and does not count as a move.
    fn takes_initial_claim(&mut self, cause: ChangeCause) -> bool {
        let taken = cause == (ChangeCause::Announced { initial: true })
            && self.initial_claims < INITIAL_CLAIMS;
        self.initial_claims += u8::from(taken);
        taken
    }

    pub(super) const fn mobility(&self) -> Mobility {
        Mobility {
            sticky: self.sticky,
            sequence: self.sequence,
        }
    }
}

/// Changes by the owner of the ports.
impl EvpnMacTable {
    /// Adds a local MAC, or changes it, and originates its routes.
    ///
    /// # Errors
    /// [`LocalMacError`]; nothing changes. An attached MAC is refused only if the VNI is unknown.
    pub(in crate::evpn) fn add_local(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        mac: HostMac,
        local: LocalMac,
    ) -> Result<(), LocalMacError> {
        let LocalMac {
            kind,
            sticky,
            anycast,
        } = local;
        if !shared.vrfs.contains(vni) {
            return Err(LocalMacError::UnknownVni(vni));
        }
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            if kind == LocalKind::Attached {
                let was_learned = state.kind == LocalKind::Learned;
                (state.kind, state.sticky, state.anycast) = (kind, sticky, anycast);
                self.count_learned(vni, was_learned, false);
                self.advertise(shared, vni, mac);
                self.contest_again(shared, now, vni, mac);
            }
            return Ok(());
        }
        self.check_local(shared, now, vni, mac, kind)?;
        let place = self.entries.find(vni, mac);
        let sequence = if anycast {
            0
        } else {
            self.sequence_for(shared, now, (vni, mac), place)
        };
        let state = LocalMacState {
            kind,
            sticky,
            sequence,
            addresses: BTreeMap::new(),
            claims: BTreeSet::new(),
            contested: None,
            anycast,
            initial_claims: 0,
        };
        self.locals.insert((vni, mac), state);
        self.count_learned(vni, false, kind == LocalKind::Learned);
        if let Some(place) = place {
            self.mark_local(place, true);
            let entry = self.entries.get(place);
            let selected = entry.selected();
            let claimed = selected.filter(|_| !anycast && !shared.is_gateway(selected));
            if let Some(from) = claimed.and_then(|attrs| shared.vtep_of(attrs)) {
                shared.events.push(EvpnEvent::Moved {
                    vni,
                    mac,
                    from: Some(from),
                    to: None,
                    sequence,
                });
            }
        }
        self.advertise(shared, vni, mac);
        // A claim that its sequence does not answer, as that of a sticky MAC.
        if kind == LocalKind::Attached {
            self.contest_again(shared, now, vni, mac);
        }
        Ok(())
    }

    /// Whether a MAC may become local. Attaching a MAC unfreezes it; learning it from frames is
    /// refused where a static entry, duplicate detection, or a route that is sticky or of a default
    /// gateway has priority.
    fn check_local(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        mac: HostMac,
        kind: LocalKind,
    ) -> Result<(), LocalMacError> {
        if kind == LocalKind::Attached {
            self.unfreeze(shared, now, vni, mac);
            return Ok(());
        }
        if self.statics.contains_key(&(vni, mac)) {
            return Err(LocalMacError::Static(vni, mac));
        }
        self.check_learning(shared, vni, mac)?;
        let place = self.entries.find(vni, mac);
        // A frozen MAC that no other VTEP announces any more can be nowhere else.
        let Some(selected) = place.and_then(|place| self.entries.get(place).selected()) else {
            return Ok(());
        };
        if self.duplicates.is_frozen((vni, mac)) {
            return Err(LocalMacError::Frozen(vni, mac));
        }
        let info = shared.rib.attributes().path_info(selected);
        if info.mobility.sticky {
            return Err(LocalMacError::Sticky(vni, mac));
        }
        if info.gateway {
            return Err(LocalMacError::Gateway(vni, mac));
        }
        if self.record_move(shared, now, (vni, mac), Direction::Here) {
            Err(LocalMacError::Frozen(vni, mac))
        } else {
            Ok(())
        }
    }

    /// Removes a local MAC with its addresses and routes, if it is local. The next entry by
    /// priority is installed.
    pub(in crate::evpn) fn remove_local(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        mac: HostMac,
    ) {
        if self.drop_local(shared, now, vni, mac) {
            if let Some(place) = self.entries.find(vni, mac) {
                self.mark_local(place, false);
            }
            self.reinstall(shared, vni, mac);
            self.admit_waiting(shared, now, vni);
        }
    }

    /// Removes a local MAC, but leaves its table entry. False if it is not local.
    fn drop_local(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        mac: HostMac,
    ) -> bool {
        self.withdraw(shared, vni, mac);
        let Some(state) = self.locals.remove(&(vni, mac)) else {
            return false;
        };
        self.count_learned(vni, state.kind == LocalKind::Learned, false);
        let sequence = state.sequence;
        self.memory
            .remember(now, (vni, mac), Origin::Local, sequence);
        let released = state.claims.into_iter().map(|ip| (vni, mac, ip));
        self.affected.released.extend(released);
        true
    }

    /// True if the MAC is local.
    pub(in crate::evpn) fn is_local(&self, vni: Vni, mac: HostMac) -> bool {
        self.locals.contains_key(&(vni, mac))
    }

    /// The local MACs of a VNI.
    pub(in crate::evpn) fn locals_of(&self, vni: Vni) -> Vec<HostMac> {
        self.locals.keys_of(vni)
    }

    /// The sequence with which a MAC becomes local, or claims back that it is: from its routes, and
    /// from the sequences that it has, or had a short while ago. `place`: of its entry.
    fn sequence_for(
        &self,
        shared: &SharedState,
        now: Instant,
        (vni, mac): (Vni, HostMac),
        place: Option<u32>,
    ) -> u32 {
        let routes = place
            .into_iter()
            .flat_map(|place| self.entries.routes(place));
        let paths = routes.flat_map(|id| shared.rib.views(id));
        let counts = |attrs: AttrId| {
            matches!(
                shared.usable(vni, attrs),
                Ok(())
                    | Err(RouteStatus::Ineligible(
                        Ineligible::OwnNextHop | Ineligible::Looped
                    ))
            )
        };
        let infos = paths
            .filter(|path| counts(path.attrs))
            .map(|path| shared.rib.attributes().path_info(path.attrs));
        // The MAC of a gateway is that of several VTEPs: none claims it from the others.
        let seen = infos.filter(|info| !info.gateway).map(|info| {
            let ours = info.next_hop == shared.config.vtep.get();
            (info.mobility.sequence, ours)
        });
        let left = self.memory.get(now, vni, mac, Origin::Remote);
        let seen = seen.chain(left.map(|sequence| (sequence, false)));
        let current = self.local_sequence(vni, mac);
        let own = current.or_else(|| self.memory.get(now, vni, mac, Origin::Local));
        sequence_above(own, seen)
    }
}

/// Conflicts with other VTEPs.
impl EvpnMacTable {
    /// The path of another VTEP that claims a local MAC, if one does. An attached MAC is never
    /// claimed where several VTEPs have it by design, and a learned one always by a gateway's.
    fn claimed_by(&self, shared: &SharedState, place: u32) -> Option<(MacCandidate, Claim)> {
        let entry = self.entries.get(place);
        let state = self.locals.get(&(entry.vni, entry.mac()))?;
        let ours = MacCandidate {
            reachable: true,
            long_lived: false,
            stale: false,
            mobility: state.mobility(),
            vtep: shared.config.vtep.get(),
        };
        let selected = entry.selected()?;
        let info = shared.rib.attributes().path_info(selected);
        if state.kind == LocalKind::Attached && (state.anycast || info.gateway) {
            return None;
        }
        let theirs = MacCandidate {
            reachable: true,
            ..self.selected_candidate(shared, place, selected)
        };
        let yields = state.kind == LocalKind::Learned && info.gateway;
        let claim = yields.then_some(Claim::Better);
        Some((theirs, claim.or_else(|| Claim::of(&theirs, &ours))?))
    }

    /// Another VTEP announces a local MAC with a new path.
    pub(super) fn contest_local(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        cause: ChangeCause,
    ) {
        let Some((theirs, claim)) = self.claimed_by(shared, place) else {
            return;
        };
        let entry = *self.entries.get(place);
        let (vni, mac) = (entry.vni, entry.mac());
        let Ok(vtep) = VtepAddr::new(theirs.vtep) else {
            return;
        };
        let sequence = theirs.mobility.sequence;
        let Some(state) = self.locals.get_mut(&(vni, mac)) else {
            return;
        };
        if state.kind == LocalKind::Learned {
            if claim != Claim::Better {
                return;
            }
            let is_move = compare_sequence(sequence, state.sequence).is_gt()
                && cause != ChangeCause::Other
                && !shared.is_gateway(entry.selected());
            return self.learned_moved_away(shared, now, place, (vtep, sequence), is_move);
        }
        if state.contested.replace((vtep, sequence)) != Some((vtep, sequence)) {
            shared.events.push(EvpnEvent::Contested {
                vni,
                mac,
                vtep,
                sequence,
                is_highest: claim == Claim::HigherNumber || next_sequence(sequence) < sequence,
            });
        }
        // No sequence wins against a sticky MAC, and a sticky local MAC needs none.
        if theirs.mobility.sticky || state.sticky || claim != Claim::Better {
            return;
        }
        if state.takes_initial_claim(cause) {
            let sequence = self.sequence_for(shared, now, (vni, mac), Some(place));
            if !entry.has(flag::FROZEN) {
                self.raise_sequence(shared, place, sequence);
            }
        } else {
            let at = now + shared.config.claim_back;
            self.timers.insert((at, MacTimer::ClaimBack(vni, mac)));
        }
    }

    /// The settings of a local MAC changed: another VTEP may contest it now.
    fn contest_again(&mut self, shared: &mut SharedState, now: Instant, vni: Vni, mac: HostMac) {
        if let Some(place) = self.entries.find(vni, mac) {
            self.contest_local(shared, now, place, ChangeCause::Other);
        }
    }

    /// A MAC that was learned from frames is behind another VTEP now. `is_move`: by a later claim.
    fn learned_moved_away(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        (vtep, sequence): (VtepAddr, u32),
        is_move: bool,
    ) {
        let entry = *self.entries.get(place);
        let (vni, mac) = (entry.vni, entry.mac());
        let is_frozen = entry.has(flag::FROZEN)
            || (is_move && self.record_move(shared, now, (vni, mac), Direction::Away));
        if is_frozen {
            return;
        }
        self.drop_local(shared, now, vni, mac);
        self.mark_local(place, false);
        shared
            .events
            .push(EvpnEvent::LearnedGone { vni, mac, vtep });
        shared.events.push(EvpnEvent::Moved {
            vni,
            mac,
            from: None,
            to: Some(vtep),
            sequence,
        });
        self.publish(shared, place);
    }

    /// Claims back a MAC that is attached here and that another VTEP still announces, with a higher
    /// sequence. If two VTEPs keep claiming a MAC, duplicate detection freezes it.
    pub(super) fn claim_back(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        vni: Vni,
        mac: HostMac,
    ) {
        let Some(place) = self.entries.find(vni, mac) else {
            return;
        };
        if self.entries.get(place).has(flag::FROZEN)
            || self.claimed_by(shared, place).map(|(_, claim)| claim) != Some(Claim::Better)
            || self.record_move(shared, now, (vni, mac), Direction::Here)
        {
            return;
        }
        let sequence = self.sequence_for(shared, now, (vni, mac), Some(place));
        self.raise_sequence(shared, place, sequence);
    }

    fn raise_sequence(&mut self, shared: &mut SharedState, place: u32, sequence: u32) {
        let entry = *self.entries.get(place);
        let (vni, mac) = (entry.vni, entry.mac());
        let from = entry.selected().and_then(|attrs| shared.vtep_of(attrs));
        if let Some(state) = self.locals.get_mut(&(vni, mac)) {
            state.sequence = sequence;
            state.contested = None;
            shared.events.push(EvpnEvent::Moved {
                vni,
                mac,
                from,
                to: None,
                sequence,
            });
            self.advertise(shared, vni, mac);
        }
    }

    /// A route of this VTEP came back from a peer. If its sequence is above the current one, it is
    /// from before a restart: peers that ignore lower sequences would ignore the current routes.
    pub(super) fn check_own_route(
        &mut self,
        shared: &mut SharedState,
        now: Instant,
        place: u32,
        path: BestPath,
        cause: ChangeCause,
    ) {
        let entry = *self.entries.get(place);
        if !entry.has(flag::LOCAL) {
            return;
        }
        let info = *shared.rib.attributes().path_info(path.attrs);
        if info.next_hop != shared.config.vtep.get() {
            return;
        }
        let sequence = info.mobility.sequence;
        let (vni, mac) = (entry.vni, entry.mac());
        let Some(state) = self.locals.get_mut(&(vni, mac)) else {
            return;
        };
        if compare_sequence(sequence, state.sequence).is_gt()
            && !state.anycast
            && !entry.has(flag::FROZEN)
            && (state.takes_initial_claim(cause)
                || !self.record_move(shared, now, (vni, mac), Direction::Here))
        {
            self.raise_sequence(shared, place, next_sequence(sequence));
        }
    }
}
