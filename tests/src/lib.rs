//! Fixtures for tests on real interfaces: namespaces, links, programs, and the remote end of the
//! tunnel.
//!
//! ```text
//! Fabric ── a bridge in a namespace of its own; the eth0 of every hypervisor is a port of it
//!   ├─ Netns "a"  vtepd (vtepd.rs)          ── Host (link.rs): tenant behind a veth
//!   ├─ Netns "b"  LinuxVtep (linux_vtep.rs) ── TapHost (tap.rs): tenant behind a tap
//!   ├─ Site (site.rs): vtepd with BGP, or Linux with FRR (frr.rs)
//!   ├─ reflectors: FRR (frr.rs) or GoBGP (gobgp.rs)
//!   │    release.rs, trixie.rs: the routing daemons of Debian 12 and 13
//!   ├─ Pair, RawPair (topology.rs): two VTEPs, or one VTEP and a peer that sends raw frames
//!   ├─ guest.rs: a tenant on a tap with virtio's offloads; stream.rs: TCP, compared byte by byte
//!   ├─ echo.rs: echo requests, and which of them are answered
//!   └─ Raw (wire.rs): sends and receives raw frames; Capture: tcpdump, decoded by tshark
//! ```
//!
//! Each test owns what it creates. Names start with `vt-<pid>-<n>-`; `Drop` removes everything,
//! also after a panic, and then prints the logs of the programs. Every external command has a time
//! limit. No test touches the host's own network.

pub mod cases;
pub mod config;
pub mod craft;
pub mod echo;
pub mod fabric;
pub mod frame;
pub mod frr;
pub mod gobgp;
pub mod guest;
pub mod link;
pub mod linux_vtep;
pub mod netns;
pub mod program;
pub mod release;
pub mod script;
pub mod site;
pub mod stream;
pub mod tap;
pub mod tidy;
pub mod tools;
pub mod topology;
pub mod trixie;
pub mod vtepd;
pub mod wire;
