//! The programs of an underlay interface with packet sockets (`underlay.bpf.c`).

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use libbpf_rs::{Error, ErrorExt, Object, ObjectBuilder};

use crate::endpoints::{self, Endpoints};

/// The compiled programs.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/underlay.bpf.o"));

/// One loaded instance of the programs, with its own maps.
#[derive(Debug)]
pub struct UnderlayPrograms {
    object: Object,
    endpoints: Endpoints,
}

impl UnderlayPrograms {
    /// Loads the programs. Nothing is VXLAN to this VTEP before [`Self::set_endpoints`].
    ///
    /// # Errors
    /// libbpf's error: EPERM without CAP_BPF and CAP_NET_ADMIN, EINVAL before Linux 6.6.
    pub fn load() -> Result<Self, Error> {
        let mut open = ObjectBuilder::default()
            .open_memory(OBJECT)
            .context("open the built-in BPF object")?;
        endpoints::set_size(&mut open)?;
        let object = open.load().context("load the programs of the underlay")?;
        Ok(Self {
            object,
            endpoints: Endpoints::default(),
        })
    }

    /// The filter of a socket: it takes VXLAN to this VTEP, and nothing else.
    ///
    /// # Errors
    /// If the object has no such program (a broken build), or no file descriptor is left.
    pub fn filter(&self) -> Result<OwnedFd, Error> {
        super::program(&self.object, "underlay_filter")
    }

    /// The program for tcx ingress: it drops what the filter takes.
    ///
    /// # Errors
    /// As [`Self::filter`].
    pub fn ingress(&self) -> Result<OwnedFd, Error> {
        super::program(&self.object, "underlay_ingress")
    }

    /// Sets whether sockets take the packets. While none does, they are counted.
    ///
    /// # Errors
    /// libbpf's error.
    pub fn set_taken(&self, taken: bool) -> Result<(), Error> {
        super::set_number(&self.object, "taken", u32::from(taken))
    }

    /// Packets that were dropped while no socket took them.
    #[must_use]
    pub fn untaken(&self) -> u64 {
        super::sum_of_cpus(&self.object, "untaken", 0)
    }

    /// As [`crate::Programs::set_endpoints`].
    ///
    /// # Errors
    /// libbpf's error, such as ENOMEM.
    pub fn set_endpoints(&mut self, addresses: &[IpAddr], port: u16) -> Result<(), Error> {
        self.endpoints.set(&self.object, addresses, port)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use libbpf_rs::ProgramInput;

    use super::*;
    use crate::tests::{hosts, locals, ours};

    /// `TCX_NEXT` and `TCX_DROP` (include/uapi/linux/bpf.h).
    const NEXT: u32 = u32::MAX;
    const DROP: u32 = 2;

    fn run(programs: &mut UnderlayPrograms, name: &str, frames: &[Vec<u8>]) -> Vec<u32> {
        let mut all = programs.object.progs_mut();
        let program = all.find(|program| program.name() == name).unwrap();
        let run = |frame: &Vec<u8>| {
            let mut frame = frame.clone();
            // What the kernel takes for a packet has an Ethernet header and one byte, at least.
            frame.resize(frame.len().max(15), 0);
            let input = ProgramInput {
                data_in: Some(&frame),
                ..ProgramInput::default()
            };
            program.test_run(input).unwrap().return_value
        };
        frames.iter().map(run).collect()
    }

    /// Sockets get what the host does not, and the other way round.
    #[test]
    fn vxlan_to_this_vtep_is_for_sockets_and_all_else_for_the_host() {
        let mut programs = UnderlayPrograms::load().unwrap();
        let nothing = run(&mut programs, "underlay_ingress", &ours());
        assert!(
            nothing.iter().all(|verdict| *verdict == NEXT),
            "no endpoint"
        );
        programs.set_endpoints(&locals(), 4789).unwrap();
        for (frames, ingress, filter) in [(ours(), DROP, u32::MAX), (hosts(), NEXT, 0)] {
            let verdicts = run(&mut programs, "underlay_ingress", &frames);
            assert_eq!(verdicts, vec![ingress; frames.len()]);
            // BPF_PROG_RUN takes an Ethernet header away before a filter, a packet socket does not.
            let header = |frame: &Vec<u8>| [&frame[..14], &frame[..]].concat();
            let frames: Vec<_> = frames.iter().map(header).collect();
            let verdicts = run(&mut programs, "underlay_filter", &frames);
            assert_eq!(verdicts, vec![filter; frames.len()]);
        }
        assert_eq!(programs.untaken(), ours().len() as u64);
        programs.set_taken(true).unwrap();
        run(&mut programs, "underlay_ingress", &ours());
        assert_eq!(programs.untaken(), ours().len() as u64);
    }

    /// The first endpoint of IPv4 is compared, the others are looked up.
    #[test]
    fn only_the_endpoints_of_the_last_change_are_taken() {
        let mut programs = UnderlayPrograms::load().unwrap();
        let v4 = ours().into_iter().take(6).collect::<Vec<_>>();
        let (this, other, v6) = (
            locals()[0],
            Ipv4Addr::new(203, 0, 113, 1).into(),
            locals()[1],
        );
        let group = Ipv4Addr::new(239, 0, 0, 1).into();
        for (endpoints, verdict) in [
            (vec![other, this], DROP),
            (vec![other], NEXT),
            (vec![group, v6, this], DROP),
            (vec![v6], NEXT),
            (vec![this], DROP),
            (vec![], NEXT),
        ] {
            programs.set_endpoints(&endpoints, 4789).unwrap();
            let verdicts = run(&mut programs, "underlay_ingress", &v4);
            assert_eq!(verdicts, [verdict; 6], "{endpoints:?}");
        }
        programs.set_endpoints(&[this], 4790).unwrap();
        assert_eq!(run(&mut programs, "underlay_ingress", &v4), [NEXT; 6]);
    }
}
