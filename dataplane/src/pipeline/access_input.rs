//! Input from access devices whose port only checks what every port does: the usual frame is parsed
//! at once ([`super::plain`]). Everything else is done as for any tenant ([`super::tenant_input`]).

use super::context::BurstContext;
use super::meta::{Disposition, FrameMeta, IngressPort};
use super::plain::PlainFrame;
use super::stages::Input;
use super::tenant_input::TenantInput;
use crate::frame::{Frame, FrameMemory};
use crate::table::mac::{LookupResult, MacKey};
use crate::table::port::ChecksumMode;

/// Access devices whose port only checks what every port does: the usual frame is parsed at once.
pub(super) struct AccessInput;

impl AccessInput {
    /// False for ports with locked MACs, and those whose checksums are all computed.
    pub(super) fn applies(ingress: IngressPort<'_>) -> bool {
        let port = ingress.port;
        port.lock.is_none() && port.checksum != ChecksumMode::Complete
    }
}

impl<'t> Input<'t> for AccessInput {
    type Meta = FrameMeta;
    const DROPPED: FrameMeta = FrameMeta::DROPPED;
    const PREPENDS: bool = true;

    #[inline(always)]
    fn parse<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut FrameMeta,
    ) -> MacKey {
        let bytes = ctx.pool.memory().bytes(frame);
        let (Some(IngressPort { port, .. }), Some(plain)) = (ctx.access, PlainFrame::parse(bytes))
        else {
            return parse_other(ctx, frame, meta);
        };
        *meta = FrameMeta {
            flow: plain.flow,
            port: port.id,
            tos: plain.tos,
            disposition: Disposition::Forward,
        };
        if port.learn.is_some() {
            ctx.sources
                .push((port.id, MacKey::of_bits(port.domain, plain.source)));
        }
        MacKey::of_bits(port.domain, plain.destination)
    }

    #[inline(always)]
    fn forward<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: Frame,
        meta: &FrameMeta,
        key: MacKey,
        found: LookupResult,
    ) {
        TenantInput::forward(ctx, frame, meta, key, found);
    }

    #[inline(always)]
    fn forward_group<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frames: &mut [Frame],
        meta: &[FrameMeta],
        looked_up: (&[MacKey], &[LookupResult]),
    ) {
        TenantInput::forward_group(ctx, frames, meta, looked_up);
    }
}

/// [`AccessInput::parse`] for any but the usual frame.
#[inline(never)]
fn parse_other<'t, M: FrameMemory>(
    ctx: &mut BurstContext<'t, '_, M>,
    frame: &mut Frame,
    meta: &mut FrameMeta,
) -> MacKey {
    TenantInput::parse(ctx, frame, meta)
}
