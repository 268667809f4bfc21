//! Model checking: every interleaving with up to two preemptions, and every value that the memory
//! model lets a reader see, for the smallest arrays in which the writer's steps meet a reader.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p vtep-dataplane --release --lib loom
//! ```

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ::loom::sync::Arc;
use ::loom::thread;

use super::array::{Array, Seed};

const SEED: Seed = Seed::new(0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344);

/// Keys whose first bucket is `first` in an array of two.
fn keys(first: usize) -> impl Iterator<Item = u64> {
    (0x0200_0000_0001..).filter(move |key| Array::first_of_two(SEED, *key) == first)
}

/// Runs `write` concurrently with `read` on an array of two buckets that `prepare` has filled.
fn race(
    prepare: impl Fn(&Array) + Send + Sync + 'static,
    write: impl Fn(&Array) + Send + Sync + Copy + 'static,
    read: impl Fn(&Array) + Send + Sync + 'static,
) {
    let runs = std::sync::Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    let mut model = ::loom::model::Builder::new();
    // Two suffice to find that either version step of the writer is missing. Unbounded, the models
    // did not finish in 100 s.
    model.preemption_bound = Some(2);
    model.check(move || {
        count.fetch_add(1, Relaxed);
        let array = Arc::new(Array::new(2, SEED));
        prepare(&array);
        let writer = {
            let array = array.clone();
            thread::spawn(move || write(&array))
        };
        read(&array);
        writer.join().unwrap();
    });
    let runs = runs.load(Relaxed);
    println!("{runs} interleavings");
    assert!(
        runs > 10,
        "{runs} interleavings: loom did not see that the two threads race"
    );
}

#[test]
fn a_key_never_gets_the_destination_of_another_in_its_slot() {
    let [k, l] = [0, 1].map(|n| keys(0).nth(n).unwrap());
    race(
        move |array| assert!(array.insert(k, 1)),
        move |array| {
            assert_eq!(array.remove(k), Some(1));
            assert!(array.insert(l, 2));
        },
        move |array| {
            assert!(matches!(array.lookup(k), Some(1) | None));
            assert!(matches!(array.lookup(l), Some(2) | None));
        },
    );
}

#[test]
fn a_key_that_returns_to_its_slot_has_one_of_its_own_destinations() {
    let [k, l] = [0, 1].map(|n| keys(0).nth(n).unwrap());
    race(
        move |array| assert!(array.insert(k, 1)),
        move |array| {
            assert_eq!(array.remove(k), Some(1));
            assert!(array.insert(l, 2));
            assert_eq!(array.remove(l), Some(2));
            assert!(array.insert(k, 3));
        },
        move |array| assert!(matches!(array.lookup(k), Some(1 | 3) | None)),
    );
}

#[test]
fn an_update_is_seen_at_once_and_never_undone() {
    let k = keys(0).next().unwrap();
    race(
        move |array| assert!(array.insert(k, 1)),
        move |array| {
            assert_eq!(array.update(k, 2), Some(1));
            assert_eq!(array.update(k, 3), Some(2));
        },
        move |array| {
            let (before, after) = (array.lookup(k).unwrap(), array.lookup(k).unwrap());
            assert!(
                (1..=3).contains(&before) && (before..=3).contains(&after),
                "{before} {after}"
            );
        },
    );
}

#[test]
fn a_new_key_is_seen_whole_and_stays() {
    let k = keys(0).next().unwrap();
    race(
        |_| (),
        move |array| assert!(array.insert(k, 7)),
        move |array| match array.lookup(k) {
            Some(7) => assert_eq!(array.lookup(k), Some(7)),
            found => assert_eq!(found, None),
        },
    );
}

#[test]
fn a_key_is_not_missed_on_its_way_to_its_second_bucket() {
    let k = keys(0).next().unwrap();
    race(
        move |array| assert!(array.insert(k, 1)),
        |array| array.displace(0, 0, 1),
        move |array| assert_eq!(array.lookup(k), Some(1)),
    );
}

#[test]
fn a_key_is_not_missed_on_its_way_there_and_back() {
    let k = keys(0).next().unwrap();
    race(
        move |array| assert!(array.insert(k, 1)),
        |array| {
            array.displace(0, 0, 1);
            array.displace(1, 0, 0);
        },
        move |array| assert_eq!(array.lookup(k), Some(1)),
    );
}

#[test]
fn a_key_is_not_missed_on_its_way_back_and_there() {
    let k = keys(0).next().unwrap();
    race(
        move |array| {
            assert!(array.insert(k, 1));
            array.displace(0, 0, 1);
        },
        |array| {
            array.displace(1, 0, 0);
            array.displace(0, 0, 1);
        },
        move |array| assert_eq!(array.lookup(k), Some(1)),
    );
}

#[test]
fn a_displaced_key_is_found_with_its_own_destination() {
    let [k, l] = [0, 1].map(|n| keys(0).nth(n).unwrap());
    race(
        move |array| assert!(array.insert(k, 1)),
        move |array| {
            array.displace(0, 0, 1);
            assert!(array.insert(l, 2));
        },
        move |array| {
            assert_eq!(array.lookup(k), Some(1));
            assert!(matches!(array.lookup(l), Some(2) | None));
        },
    );
}

#[test]
fn a_key_removed_from_its_second_bucket_is_absent_and_the_next_one_there_is_found() {
    let [k, l] = [keys(0).next().unwrap(), keys(1).next().unwrap()];
    race(
        move |array| {
            assert!(array.insert(k, 1));
            array.displace(0, 0, 1);
        },
        move |array| {
            assert_eq!(array.remove(k), Some(1));
            assert!(array.insert(l, 2));
        },
        move |array| {
            assert!(matches!(array.lookup(k), Some(1) | None));
            assert!(matches!(array.lookup(l), Some(2) | None));
        },
    );
}
