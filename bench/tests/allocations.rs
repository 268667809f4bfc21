//! From octets to the table without an allocation per route, once tables and buffers have reached
//! their size. A single test in a separate program: the allocator counts for all threads.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vtep_bench::rows::evpn::hosts::Hosts;
use vtep_bench::rows::evpn::ingest::Feed;

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Routes that are advertised and withdrawn, below the capacity of all tables; the first VTEP has
/// half of them.
const HOSTS: Hosts = Hosts {
    hosts: 20_000,
    vteps: 2,
};

/// Allocations for a VTEP that is added or removed, regardless of the hosts behind it: its entry,
/// and snapshots of two tables.
const A_VTEP: usize = 24;

/// Allocations on the path from octets to the table.
fn taken(feed: &mut Feed, octets: &[u8]) -> usize {
    let region = Region::new(COUNTING);
    feed.take(octets).unwrap();
    let counted = region.change();
    counted.allocations + counted.reallocations
}

#[test]
fn routes_come_and_go_without_an_allocation_each() {
    let mut feed = Feed::new(2 * HOSTS.hosts).unwrap();
    feed.take(&HOSTS.all_announced().unwrap()).unwrap();
    let (up, down) = (HOSTS.announced(0).unwrap(), HOSTS.withdrawn(0).unwrap());
    for round in 0..5 {
        let gone = taken(&mut feed, &down);
        feed.sink.check(HOSTS, 0, true).unwrap();
        let (come, again) = (taken(&mut feed, &up), taken(&mut feed, &up));
        feed.sink.check_all(HOSTS).unwrap();
        // In the first round the free lists grow to their size.
        if round > 0 {
            assert!(
                gone <= A_VTEP && come <= A_VTEP,
                "10,000 routes: {gone} to withdraw, {come} to advertise"
            );
            assert_eq!(again, 0, "10,000 routes advertised again without a change");
        }
    }
}
