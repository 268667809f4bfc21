//! The tcx programs of packet ports (`packet.bpf.c`): nothing passes between the interface and the
//! host's stack.

use std::os::fd::OwnedFd;

use libbpf_rs::{Error, ErrorExt, Object, ObjectBuilder};

/// The compiled programs.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/packet.bpf.o"));

/// One loaded instance of the programs, with its own maps.
#[derive(Debug)]
pub struct PacketPrograms {
    object: Object,
}

/// Frames that the programs of one device have dropped on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Isolated {
    /// Of the tenant, while no socket took them.
    pub untaken: u64,
    /// Of the host, on their way to the tenant.
    pub host: u64,
}

impl PacketPrograms {
    /// Loads the programs.
    ///
    /// # Errors
    /// libbpf's error: EPERM without CAP_BPF and CAP_NET_ADMIN, EINVAL before Linux 6.6.
    pub fn load() -> Result<Self, Error> {
        let object = ObjectBuilder::default()
            .open_memory(OBJECT)
            .context("open the built-in BPF object")?
            .load()
            .context("load the tcx programs")?;
        Ok(Self { object })
    }

    /// The program for tcx ingress.
    ///
    /// # Errors
    /// If the object has no such program (a broken build), or no file descriptor is left.
    pub fn ingress(&self) -> Result<OwnedFd, Error> {
        super::program(&self.object, "packet_ingress")
    }

    /// The program for tcx egress.
    ///
    /// # Errors
    /// As [`Self::ingress`].
    pub fn egress(&self) -> Result<OwnedFd, Error> {
        super::program(&self.object, "packet_egress")
    }

    /// Sets whether sockets take the tenant's frames. While none does, they are counted.
    ///
    /// # Errors
    /// libbpf's error.
    pub fn set_taken(&self, taken: bool) -> Result<(), Error> {
        super::set_number(&self.object, "taken", u32::from(taken))
    }

    /// Sets the mark with which our own superframes pass to the tenant; 0 = none do.
    ///
    /// # Errors
    /// libbpf's error.
    pub fn set_mark(&self, mark: u32) -> Result<(), Error> {
        super::set_number(&self.object, "superframe", mark)
    }

    /// What was dropped so far, on all CPUs.
    #[must_use]
    pub fn isolated(&self) -> Isolated {
        // The numbers of packet.bpf.c.
        let sum = |number| super::sum_of_cpus(&self.object, "dropped", number);
        Isolated {
            untaken: sum(0),
            host: sum(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use libbpf_rs::ProgramInput;

    use super::*;

    /// TCX_DROP (include/uapi/linux/bpf.h).
    const DROP: u32 = 2;

    fn run(programs: &mut PacketPrograms, name: &str, frames: u32) {
        let mut all = programs.object.progs_mut();
        let program = all.find(|program| program.name() == name).unwrap();
        let input = ProgramInput {
            data_in: Some(&[0xaa; 60]),
            repeat: frames,
            ..ProgramInput::default()
        };
        assert_eq!(program.test_run(input).unwrap().return_value, DROP);
    }

    #[test]
    fn only_frames_with_the_mark_pass_to_the_tenant() {
        let mut programs = PacketPrograms::load().unwrap();
        let sent = |programs: &mut PacketPrograms, mark: u32| {
            // `struct __sk_buff` (include/uapi/linux/bpf.h): `mark` is its third field.
            let mut context = [0; 192];
            context[8..12].copy_from_slice(&mark.to_ne_bytes());
            let mut all = programs.object.progs_mut();
            let program = all.find(|program| program.name() == "packet_egress");
            let input = ProgramInput {
                data_in: Some(&[0xaa; 60]),
                context_in: Some(&mut context),
                ..ProgramInput::default()
            };
            program.unwrap().test_run(input).unwrap().return_value
        };
        assert_eq!(sent(&mut programs, 0), DROP);
        programs.set_mark(0x1234).unwrap();
        let sent = [0, 0x1234, 0x1235].map(|mark| sent(&mut programs, mark));
        assert_eq!(sent, [DROP, 0, DROP]);
    }

    #[test]
    fn everything_is_dropped_and_what_no_socket_takes_is_counted() {
        let mut programs = PacketPrograms::load().unwrap();
        run(&mut programs, "packet_ingress", 3);
        programs.set_taken(true).unwrap();
        run(&mut programs, "packet_ingress", 5);
        let counted = |untaken, host| Isolated { untaken, host };
        assert_eq!(programs.isolated(), counted(3, 0));
        run(&mut programs, "packet_egress", 7);
        programs.set_taken(false).unwrap();
        run(&mut programs, "packet_ingress", 2);
        assert_eq!(programs.isolated(), counted(5, 7));
    }
}
