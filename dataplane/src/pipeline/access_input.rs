//! Input from access devices whose port only checks what every port does: the usual frame is parsed
//! at once ([`super::plain`]). Everything else is done as for any tenant ([`super::tenant_input`]).

use super::context::BurstContext;
use super::meta::{Disposition, FrameMeta, IngressPort};
use super::plain::PlainFrame;
use super::stages::{Addresses, Input};
use super::tenant_input::TenantInput;
use crate::frame::{BURST, Frame, FrameMemory};
use crate::table::mac::{LookupResult, Lookups, MacKey};
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

    #[inline(always)]
    fn parse_usual<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        lookups: &mut Lookups,
        frames: &mut [Frame],
        meta: &mut [FrameMeta; BURST],
        (addresses, first): (&Addresses, usize),
    ) -> usize {
        let Some(IngressPort { port, .. }) = ctx.access else {
            return 0;
        };
        let (id, domain, learns) = (port.id, port.domain, port.learn.is_some());
        let (memory, macs) = (ctx.pool.memory(), ctx.macs);
        let count = frames.len().min(BURST);
        for at in first..count {
            addresses.prefetch_both_ahead(at);
            let Some(plain) = PlainFrame::parse(memory.bytes(&frames[at])) else {
                return at - first;
            };
            if learns {
                let source = MacKey::of_bits(domain, plain.source);
                ctx.sources.push((id, source));
            }
            meta[at] = FrameMeta {
                flow: plain.flow,
                port: id,
                tos: plain.tos,
                disposition: Disposition::Forward,
            };
            macs.lookup_start(lookups, at, MacKey::of_bits(domain, plain.destination));
        }
        count.saturating_sub(first)
    }

    #[inline(never)]
    fn parse<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frame: &mut Frame,
        meta: &mut FrameMeta,
    ) -> MacKey {
        TenantInput::parse(ctx, frame, meta)
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
    fn forward_all<M: FrameMemory>(
        ctx: &mut BurstContext<'t, '_, M>,
        frames: &mut [Frame],
        meta: &[FrameMeta],
        looked_up: (&[MacKey], &[LookupResult]),
        addresses: &Addresses,
    ) {
        TenantInput::forward_all(ctx, frames, meta, looked_up, addresses);
    }
}
