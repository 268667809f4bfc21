//! `show bgp segments`.

use crate::api::bgp::{SegmentMemberRow, SegmentRow};
use crate::api::show::ShowQuery;
use crate::bgp::wire::Esi;
use crate::engine::EngineView;
use crate::evpn::SegmentView;

impl<'e> EngineView<'e> {
    /// The rows from the segment of the query's cursor on.
    pub(super) fn segment_rows(&self, query: &ShowQuery) -> impl Iterator<Item = SegmentRow> + 'e {
        let after = query.after.as_deref().and_then(|text| text.split_once('/'));
        let from = after.and_then(|(esi, _)| esi.parse().ok());
        let speaker = &self.evpn.speaker;
        let only = query.vni;
        speaker
            .segments(from.unwrap_or(Esi::ZERO))
            .filter(move |view| only.is_none_or(|vni| vni == view.vni))
            .map(row)
    }
}

fn row(SegmentView { esi, vni, members }: SegmentView) -> SegmentRow {
    SegmentRow {
        esi,
        vni,
        single_active: members.iter().any(|member| member.single_active),
        vteps: members
            .into_iter()
            .map(|member| SegmentMemberRow {
                vtep: member.vtep,
                per_es: member.per_es,
                per_evi: member.per_evi,
                macs: member.macs,
                used: member.used,
            })
            .collect(),
    }
}
