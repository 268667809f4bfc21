//! What happens to a frame, as pure functions: no I/O, no clock, no allocation, no `unsafe`.
//!
//! ```text
//! TenantFrame  -> guard -> classify -> lookup -> verdict -> rewrite -> outbox   (may be flooded to the overlay)
//! OverlayFrame -> classify -> lookup -> verdict -> rewrite -> outbox            (has no way back to the overlay)
//! ```

pub mod frame;
pub mod outbox;
pub mod verdict;
