//! Fixtures for tests on real interfaces: namespaces, links, programs, and the other end of the tunnel.
//!
//! ```text
//! Fabric ── a bridge in a namespace of its own; every hypervisor's eth0 is a port of it
//!   ├─ Netns "a"  vtepd (vtepd.rs)          ── Host (link.rs): a tenant in its own namespace, behind a veth
//!   ├─ Netns "b"  LinuxVtep (linux_vtep.rs) ── TapHost (tap.rs): a tenant behind a tap
//!   ├─ Site (site.rs): either of them with BGP, as FRR (frr.rs) speaks it for Linux; reflectors are FRR or GoBGP (gobgp.rs)
//!   │    trixie.rs: those of Debian 13 beside those of this host
//!   ├─ echo.rs: echo requests and who answers them
//!   └─ Raw (wire.rs): crafted frames in, whatever arrives out; Capture: tcpdump read by tshark
//! ```
//!
//! Each test owns what it makes. Names start with `vt-<pid>-<n>-`; `Drop` removes everything, after a panic too, and
//! shows the logs of the programs then. Every external command has a time limit. No test touches the host's own network.

pub mod cases;
pub mod craft;
pub mod echo;
pub mod fabric;
pub mod frame;
pub mod frr;
pub mod gobgp;
pub mod link;
pub mod linux_vtep;
pub mod netns;
pub mod program;
pub mod script;
pub mod site;
pub mod tap;
pub mod tidy;
pub mod tools;
pub mod topology;
pub mod trixie;
pub mod vtepd;
pub mod wire;
