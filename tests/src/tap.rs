//! A tenant behind a tap: a program that holds the tap as a virtual machine would, and answers ARP
//! and ping.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::frame::{checksum, mac, tagged, untagged};
use crate::link;
use crate::netns::Netns;
use crate::wire::{Kind, Raw};

/// A guest with MAC 50:54:33:00:00:NN and address 192.0.2.N, on a tap `tap<N>` of the hypervisor.
#[derive(Debug)]
pub struct TapHost {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TapHost {
    /// Creates the tap and starts the guest. With `vlan` it tags what it sends, and receives only
    /// that VLAN.
    #[must_use]
    pub fn new(hypervisor: &Netns, number: u8, vlan: Option<u16>) -> Self {
        let name = format!("tap{number}");
        link::tap(hypervisor, &name);
        Self::on(Raw::open(hypervisor, &name, Kind::Tap), number, vlan)
    }

    /// Starts the guest on an open interface.
    #[must_use]
    pub fn on(mut raw: Raw, number: u8, vlan: Option<u16>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                for frame in raw.take() {
                    if let Some(answer) = on_vlan(&frame, vlan, |inner| answer(inner, number)) {
                        raw.send(&answer);
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for TapHost {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Passes the frame to `answer` without the tag of `vlan`, and tags the answer.
fn on_vlan(
    frame: &[u8],
    vlan: Option<u16>,
    answer: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    match (vlan, untagged(frame)) {
        (None, None) => answer(frame),
        (Some(wanted), Some((inner, got))) if wanted == got => {
            Some(tagged(&answer(&inner)?, wanted))
        }
        _ => None,
    }
}

/// The answer to an ARP request for, or an ICMP echo request to, 192.0.2.`number`.
fn answer(frame: &[u8], number: u8) -> Option<Vec<u8>> {
    let IpAddr::V4(me) = link::ip4(number) else {
        return None;
    };
    let us = mac(&link::mac(number));
    let mut reply = frame.to_vec();
    match frame.get(12..14)? {
        [0x08, 0x06] if frame.get(20..22)? == [0, 1] && frame.get(38..42)? == me.octets() => {
            reply[20..22].copy_from_slice(&[0, 2]);
            reply[32..42].copy_from_slice(&frame[22..32]);
            reply[22..28].copy_from_slice(&us);
            reply[28..32].copy_from_slice(&me.octets());
        }
        // An IPv4 header without options, ICMP, echo request.
        [0x08, 0x00] if frame.get(14)? == &0x45 && frame.get(23)? == &1 && frame.get(34)? == &8 => {
            if frame[30..34] != me.octets() || frame[..6] != us {
                return None;
            }
            let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            reply.truncate(end);
            reply[26..30].copy_from_slice(&me.octets());
            reply[30..34].copy_from_slice(&frame[26..30]);
            reply[34] = 0;
            reply[36..38].fill(0);
            let sum = checksum(0, reply.get(34..end)?);
            reply[36..38].copy_from_slice(&sum.to_be_bytes());
        }
        _ => return None,
    }
    reply[..6].copy_from_slice(&frame[6..12]);
    reply[6..12].copy_from_slice(&us);
    Some(reply)
}
