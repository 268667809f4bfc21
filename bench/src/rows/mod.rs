//! All rows, in the order in which they are printed.

pub mod evpn;
pub mod fairness;
pub mod fdb;
pub mod latency;
pub mod outer6;
pub mod packet;
pub mod pipeline;
pub mod random;
pub mod real;
pub mod replicate;
pub mod scale;
pub mod segment;
pub mod size;
pub mod tcp;
pub mod turn;

use crate::row::Spec;

/// All rows of the bench.
pub const ALL: &[Spec] = &[
    pipeline::ENCAP_HOT,
    pipeline::ENCAP_COLD,
    pipeline::DECAP_HOT,
    pipeline::DECAP_COLD,
    outer6::ENCAP,
    outer6::ENCAP_1400,
    outer6::DECAP,
    outer6::DECAP_1400,
    size::THOUSAND,
    size::TEN_THOUSAND,
    size::HUNDRED_THOUSAND,
    size::MILLION,
    size::FOUR_MILLION,
    segment::SEGMENT,
    scale::SCALE,
    fdb::LOOKUP,
    fdb::RATIO,
    fdb::UPDATE,
    replicate::ONE_64,
    replicate::ONE_1500,
    replicate::EIGHT_64,
    replicate::EIGHT_1500,
    replicate::MANY_64,
    replicate::MANY_1500,
    replicate::COPIED,
    fairness::FAIRNESS,
    latency::MEMORY,
    evpn::ingest::INGEST,
    evpn::tcp::INGEST_TCP,
    evpn::memory::MEMORY,
    evpn::failover::FAILOVER,
    evpn::interference::INTERFERENCE,
    turn::TURN,
    real::XSK,
    real::XSK_DECAP,
    real::KERNEL,
    real::KERNEL_DEFAULT,
    packet::RATIO,
    packet::RATIO_DECAP,
    packet::UNDERLAY_RATIO,
    packet::UNDERLAY_RATIO_DECAP,
    tcp::LOCAL,
    tcp::LOCAL_4,
    tcp::LOCAL_TAP,
    tcp::LOCAL_TAP_4,
    tcp::TUNNEL,
    tcp::TUNNEL_4,
    tcp::MIXED,
    tcp::COST_TUNNEL,
    tcp::COST_LOCAL,
    latency::P50,
    latency::P99,
];

/// The rows with these names, in the order of [`ALL`]; all if no name is given.
///
/// # Errors
/// The first unknown name.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Spec>, String> {
    if let Some(unknown) = names
        .iter()
        .find(|name| ALL.iter().all(|row| row.name != **name))
    {
        return Err(unknown.clone());
    }
    Ok(ALL
        .iter()
        .filter(|row| names.is_empty() || names.iter().any(|name| name == row.name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), ALL.len());
        assert_eq!(chosen(&["fdb-update".to_owned()]).unwrap().len(), 1);
        assert_eq!(
            chosen(&["fdb-update".to_owned(), "no-row".to_owned()]).unwrap_err(),
            "no-row"
        );
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = ALL.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
