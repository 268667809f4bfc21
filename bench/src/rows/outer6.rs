//! What an IPv6 underlay costs: its outer UDP checksums are computed and verified.
//!
//! ```text
//! frames -> pipeline, IPv6 underlay -> CPU time / that of the same frames over IPv4
//! ```
//!
//! The inner frames have complete UDP checksums, as frames of tenants have.

use super::pipeline::{Operation, PipelineHarness, Traffic};
use crate::cores::pin;
use crate::row::{Bar, Effort, Failure, Measure, Plan, Spec};
use crate::traffic::template::MIN_FRAME;

/// A row for each operation and length.
macro_rules! rows {
    ($($spec:ident $name:literal $operation:expr, $size:expr, $measures:literal)*) => {$(
        #[doc = $measures]
        pub const $spec: Spec = Spec {
            name: $name,
            measures: $measures,
            unit: "x",
            bar: Bar::AtMost(1.3),
            open: |effort| Ok(Box::new(Families::open($operation, $size, effort)?)),
        };
    )*};
}

rows! {
    ENCAP "encap-v6" Operation::Encap, MIN_FRAME,
        "encapsulation of 60 B frames over IPv6 with outer checksums / over IPv4, all in L1/L2"
    ENCAP_1400 "encap-v6-1400" Operation::Encap, 1400, "the same, 1400 B frames"
    DECAP "decap-v6" Operation::Decap, MIN_FRAME,
        "decapsulation of 60 B inner frames over IPv6 with outer checksums / over IPv4, all in L1/L2"
    DECAP_1400 "decap-v6-1400" Operation::Decap, 1400, "the same, 1400 B inner frames"
}

struct Families {
    v4: PipelineHarness,
    v6: PipelineHarness,
    last: String,
}

impl Families {
    fn open(operation: Operation, size: usize, effort: Effort) -> Result<Self, Failure> {
        let harness = |v6| {
            let traffic = Traffic {
                size,
                checksums: true,
                v6,
            };
            PipelineHarness::of_traffic(operation, traffic, effort)
        };
        Ok(Self {
            v4: harness(false)?,
            v6: harness(true)?,
            last: String::new(),
        })
    }
}

impl Measure for Families {
    fn once(&mut self) -> Result<f64, Failure> {
        pin(0);
        let (v4, v6) = (self.v4.run()?, self.v6.run()?);
        self.last = format!("last: {v6:.1} ns over IPv6, {v4:.1} ns over IPv4");
        Ok(v6 / v4)
    }

    fn plan(&self) -> Plan {
        Plan {
            warm_ups: 1,
            repetitions: 7,
        }
    }

    fn notes(&self) -> Vec<String> {
        vec![
            self.last.clone(),
            "every byte of 64 frames was checked first, outer checksums included; bounded by vtepd"
                .to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_both_lengths_are_forwarded_over_both_families() {
        for (operation, size) in [(Operation::Encap, 60), (Operation::Decap, 1400)] {
            Families::open(operation, size, Effort::Quick).unwrap();
        }
    }
}
