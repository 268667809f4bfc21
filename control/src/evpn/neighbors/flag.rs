//! Flags of routes in the RIB.

use vtep_dataplane::wire::nd::NdFlags;

/// The neighbor entry of this route is installed.
pub(super) const INSTALLED: u8 = 1;
/// The flags of its advertisements are known.
const ND: u8 = 2;
/// It is installed as that of an IPv6 router.
const ROUTER: u8 = 4;
/// Its advertisements replace entries.
const OVERRIDES: u8 = 8;

/// The flags of an installed route.
pub(super) fn installed(nd: Option<NdFlags>) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let nd = nd.map_or(0, |nd| {
        ND | flag(nd.router, ROUTER) | flag(nd.overrides, OVERRIDES)
    });
    INSTALLED | nd
}

/// The inverse of [`installed`].
pub(super) fn nd(flags: u8) -> Option<NdFlags> {
    (flags & ND != 0).then_some(NdFlags {
        router: flags & ROUTER != 0,
        overrides: flags & OVERRIDES != 0,
    })
}
