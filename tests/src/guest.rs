//! A tenant that the host sees as a virtual machine with virtio's offloads: a program copies
//! superframes with their virtio-net headers between its `eth0` and a tap of the hypervisor
//! (tools/guest.c). Its network stack is the kernel's.

use crate::link::Host;
use crate::netns::{Netns, command, must};
use crate::program::{Program, Scratch};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/guest.c");

/// A tenant behind a tap `tap<number>` of the hypervisor.
#[derive(Debug)]
pub struct Guest {
    // The program is stopped before its namespaces are removed.
    _program: Program,
    _directory: Scratch,
    /// Its addresses, as those of a tenant on veth.
    pub host: Host,
}

impl Guest {
    /// Tenant `number` with `queues` queues.
    ///
    /// # Panics
    /// If the program can't be compiled or started.
    #[must_use]
    pub fn new(hypervisor: &Netns, number: u8, queues: u32) -> Self {
        let ns = Netns::new(&format!("t{number}"));
        let directory = Scratch::new(&ns);
        let file = directory.path().join("guest");
        let path = file.to_str().expect("ASCII");
        let cc = ["cc", "-O2", "-pthread", "-o", path, SOURCE];
        must(&command(60, &cc), "cc guest.c");
        let (port, count) = (format!("tap{number}"), queues.to_string());
        let words = [path, ns.name(), "eth0", hypervisor.name(), &port, &count];
        let mut program = Program::start(hypervisor, directory.path(), &words);
        program.wait_for_output("ready", 10);
        ns.ip("link set eth0 up");
        hypervisor.ip(&format!("link set {port} up"));
        Self {
            _program: program,
            _directory: directory,
            host: Host::on(hypervisor, ns, &port, number),
        }
    }
}
