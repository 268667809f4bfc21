//! Routes and paths in memory: 32 octets for a route with one path, 16 for each further path.

use super::attributes::AttrId;
use super::decision::DecisionStep;
use super::key::RouteKey;
use super::slab::NONE;

/// The number of a route in the RIB; valid until the route is freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u32);

/// A BGP peer, by the number that its owner assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NeighborId(pub u16);

/// Flags of a path, above its 24-bit label.
pub(super) mod flag {
    /// Not announced again since the session ended.
    pub(crate) const STALE: u32 = 1 << 24;
    /// Kept beyond the restart time (RFC 9494).
    pub(crate) const LONG_LIVED: u32 = 1 << 25;
    /// Not announced again yet in a running refresh (RFC 7313).
    pub(crate) const REFRESHING: u32 = 1 << 26;
    /// To be removed: its session ended, or it was not announced again. Counts no longer.
    pub(crate) const ENDED: u32 = 1 << 27;
}

/// One path.
#[derive(Debug, Clone, Copy)]
pub(super) struct RibPath {
    pub(super) attrs: AttrId,
    /// 24 bits of label, flags above.
    pub(super) word: u32,
    /// The slab index of the next path.
    pub(super) next: u32,
    pub(super) from: NeighborId,
}

impl RibPath {
    pub(super) const fn new(attrs: AttrId, label: u32, from: NeighborId) -> Self {
        Self {
            attrs,
            word: label & 0x00ff_ffff,
            next: NONE,
            from,
        }
    }

    pub(super) const fn has(&self, flag: u32) -> bool {
        self.word & flag != 0
    }

    pub(super) const fn best_path(&self) -> BestPath {
        BestPath {
            attrs: self.attrs,
            label: self.word & 0x00ff_ffff,
            long_lived: self.has(flag::LONG_LIVED),
            from: self.from,
        }
    }
}

/// One route: the best path inline, the others in a chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct RibRoute {
    pub(super) key: RouteKey,
    pub(super) best: RibPath,
}

/// The best path of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestPath {
    /// Its attributes.
    pub attrs: AttrId,
    /// Its first label.
    pub label: u32,
    /// It is kept beyond the restart time (RFC 9494).
    pub long_lived: bool,
    /// The peer that sent it.
    pub from: NeighborId,
}

/// The best path of a route changed. With `new` = `None` the route has no path: its number stays
/// valid until [`super::Rib::free`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BestPathChange {
    /// The route.
    pub id: RouteId,
    /// The best path before; its attributes may be freed by now.
    pub old: Option<BestPath>,
    /// The best path now.
    pub new: Option<BestPath>,
}

/// Which paths of a peer an operation applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFilter {
    /// All.
    All,
    /// Those not announced again since the session ended.
    Stale,
    /// Those not announced again in this refresh.
    Refreshing,
    /// Those that [`super::Rib::end_paths`] has marked.
    Ended,
}

impl PathFilter {
    pub(super) const fn holds(self, path: &RibPath) -> bool {
        match self {
            Self::All => true,
            Self::Stale => path.has(flag::STALE),
            Self::Refreshing => path.has(flag::REFRESHING),
            Self::Ended => path.has(flag::ENDED),
        }
    }
}

/// One path for `show`.
#[derive(Debug, Clone, Copy)]
pub struct PathView {
    /// The peer that sent it.
    pub from: NeighborId,
    /// Its attributes.
    pub attrs: AttrId,
    /// Its first label.
    pub label: u32,
    /// The decision step at which it lost to the best path; `None`: it is the best path.
    pub lost_at: Option<DecisionStep>,
    /// Its session ended, or its peer has not sent it again yet.
    pub stale: bool,
    /// It is kept beyond the restart time (RFC 9494).
    pub long_lived: bool,
}
