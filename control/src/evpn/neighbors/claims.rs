//! Local claims of one address: which hosts of this VTEP use it, by configuration or by their ARP
//! and ND messages, and which of them has it.

use std::time::Instant;

use vtep_dataplane::addr::HostMac;
use vtep_dataplane::wire::nd::NdFlags;

use crate::evpn::config::{DuplicateConfig, LocalKind};

/// A host that uses an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) mac: HostMac,
    pub(super) kind: LocalKind,
    /// Configured as a router.
    router: bool,
    /// The flags of its advertisements, if there were any.
    learned: Option<NdFlags>,
    /// Greater for a later claim.
    order: u64,
    /// A learned address that another VTEP has claimed since.
    yielded: bool,
}

impl Claim {
    pub(super) const fn new(mac: HostMac, kind: LocalKind) -> Self {
        Self {
            mac,
            kind,
            router: false,
            learned: None,
            order: 0,
            yielded: false,
        }
    }

    /// The flags of advertisements for the address: of a configured host known without any.
    pub(super) fn nd(&self) -> Option<NdFlags> {
        let configured = self.router.then_some(NdFlags::ROUTER);
        let default = (self.kind == LocalKind::Attached).then_some(NdFlags::HOST);
        configured.or(self.learned).or(default)
    }
}

/// The claims of one address.
#[derive(Debug, Default)]
pub(super) struct AddressClaims {
    claims: Vec<Claim>,
    /// The claim that routes announce.
    pub(super) announced: Option<(HostMac, Option<NdFlags>)>,
    /// Moves since `window_start`.
    moves: u16,
    window_start: Option<Instant>,
}

impl AddressClaims {
    pub(super) const fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    pub(super) fn find(&self, mac: HostMac) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.mac == mac)
    }

    /// The latest claim of a kind; the first one of those that were only configured.
    fn latest(&self, kind: LocalKind) -> Option<&Claim> {
        let claims = self.claims.iter().rev();
        claims
            .filter(|claim| claim.kind == kind && !claim.yielded)
            .max_by_key(|claim| claim.order)
    }

    /// The local host that has the address by configuration.
    pub(super) fn attached(&self) -> Option<&Claim> {
        self.latest(LocalKind::Attached)
    }

    /// The local host that has the address by its messages.
    pub(super) fn learned(&self) -> Option<&Claim> {
        self.latest(LocalKind::Learned)
    }

    /// The local host that has the address: configuration comes before messages.
    pub(super) fn holder(&self) -> Option<&Claim> {
        self.attached().or_else(|| self.learned())
    }

    /// Adds a claim by configuration, or turns a learned one into it.
    pub(super) fn attach(&mut self, mac: HostMac, router: bool) {
        let claim = self.claim_of(mac, LocalKind::Attached);
        (claim.kind, claim.router, claim.yielded) = (LocalKind::Attached, router, false);
    }

    /// Adds a claim by a message, or makes it the latest.
    pub(super) fn claim(&mut self, mac: HostMac, router: bool) {
        let latest = self.claims.iter().map(|claim| claim.order).max();
        let claim = self.claim_of(mac, LocalKind::Learned);
        if claim.kind == LocalKind::Learned {
            claim.router = router;
        }
        claim.order = latest.unwrap_or(0) + 1;
        claim.yielded = false;
    }

    /// Records the flags that the advertisements of a host have.
    pub(super) fn set_flags(&mut self, mac: HostMac, flags: Option<NdFlags>) {
        if let Some(flags) = flags {
            self.claim_of(mac, LocalKind::Learned).learned = Some(flags);
        }
    }

    fn claim_of(&mut self, mac: HostMac, kind: LocalKind) -> &mut Claim {
        let at = self.claims.iter().position(|claim| claim.mac == mac);
        let at = at.unwrap_or_else(|| {
            self.claims.push(Claim::new(mac, kind));
            self.claims.len() - 1
        });
        &mut self.claims[at]
    }

    /// Removes the claim of a host.
    pub(super) fn remove(&mut self, mac: HostMac) {
        self.claims.retain(|claim| claim.mac != mac);
    }

    /// Learned addresses yield to another VTEP, or have no rival any more.
    pub(super) fn set_yielded(&mut self, yielded: bool) {
        for claim in &mut self.claims {
            claim.yielded = yielded && claim.kind == LocalKind::Learned;
        }
    }

    /// Counts a move to another MAC. False if it is one too many within the window: the address
    /// stays where it is (RFC 9161 section 3.7).
    pub(super) fn may_move(&mut self, config: &DuplicateConfig, now: Instant) -> bool {
        let in_window = |start: Instant| now.saturating_duration_since(start) < config.window;
        if !self.window_start.is_some_and(in_window) {
            (self.moves, self.window_start) = (0, Some(now));
        }
        if config.moves > 0 && self.moves >= config.moves {
            return false;
        }
        self.moves = self.moves.saturating_add(1);
        true
    }
}
