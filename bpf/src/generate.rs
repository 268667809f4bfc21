//! Sends frames for benchmarks from inside the kernel (`generate.bpf.c`), many times faster than a
//! socket.

use libbpf_rs::{ErrorExt, Object, ObjectBuilder, ProgramInput};

use crate::Error;

/// The compiled programs.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/generate.bpf.o"));

/// Sends the frames for real (include/uapi/linux/bpf.h), Linux 5.18 or later.
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// Bytes of `struct xdp_md` (include/uapi/linux/bpf.h): six 32-bit words.
const CONTEXT: usize = 24;

/// A loaded generator.
#[derive(Debug)]
pub struct Generator {
    object: Object,
    name: &'static str,
}

impl Generator {
    /// Loads the program for plain frames (Ethernet, IPv4 without options, UDP), or for such frames
    /// in VXLAN over IPv4.
    ///
    /// # Errors
    /// libbpf's error, such as EPERM without CAP_BPF and CAP_NET_ADMIN.
    pub fn load(in_vxlan: bool) -> Result<Self, Error> {
        let name = if in_vxlan { "vxlan" } else { "plain" };
        let mut open = ObjectBuilder::default()
            .open_memory(OBJECT)
            .context("open the built-in BPF object")?;
        for mut program in open.progs_mut() {
            program.set_autoload(program.name() == name);
        }
        Ok(Self {
            object: open.load().context("load the generator")?,
            name,
        })
    }

    /// Sends `count` copies of `frame` on the interface with this index in the caller's namespace,
    /// on the caller's core; returns when all are sent. The interface must be able to send XDP
    /// frames (on veth: GRO or an XDP program at both ends). Frames that the driver has no space
    /// for are lost.
    ///
    /// # Errors
    /// libbpf's error if the interface is gone, or the kernel has no live-frame mode.
    pub fn send(&mut self, ifindex: u32, frame: &[u8], count: u32) -> Result<(), Error> {
        let program = self
            .object
            .progs_mut()
            .find(|program| program.name() == self.name);
        let program = program
            .ok_or_else(|| Error::from(std::io::Error::other("the generator is missing")))?;
        let mut context = [0; CONTEXT];
        // data_end and ingress_ifindex; the rest stays 0.
        context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
        context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
        program.test_run(ProgramInput {
            context_in: Some(&mut context),
            data_in: Some(frame),
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            repeat: count,
            ..ProgramInput::default()
        })?;
        Ok(())
    }
}
