//! The cost of encapsulation by the size of the MAC table, for the chart in docs/performance.md.

use super::pipeline::{Caches, Operation, PipelineHarness};
use crate::row::{Bar, Spec};

/// A row for each size.
macro_rules! sizes {
    ($($spec:ident $name:literal $macs:literal)*) => {$(
        #[doc = concat!("Encapsulation with ", $macs, " MACs in the table.")]
        pub const $spec: Spec = Spec {
            name: $name,
            measures: concat!("known-unicast encapsulation over 65,536 frames in 128 MiB, ", $macs, " MACs"),
            unit: "ns/packet",
            bar: Bar::Report,
            open: |effort| Ok(Box::new(PipelineHarness::open(Operation::Encap, Caches::Table($macs), effort)?)),
        };
    )*};
}

sizes! {
    THOUSAND "encap-macs-1k" 1_000
    TEN_THOUSAND "encap-macs-10k" 10_000
    HUNDRED_THOUSAND "encap-macs-100k" 100_000
    MILLION "encap-macs-1m" 1_000_000
    FOUR_MILLION "encap-macs-4m" 4_000_000
}
