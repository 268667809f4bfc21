//! GoBGP as a route reflector.

use std::fmt::Write as _;
use std::path::Path;

use crate::fabric::vtep4;
use crate::netns::Netns;
use crate::program::{Program, Scratch};
use crate::release::Release;

/// A running gobgpd.
#[derive(Debug)]
pub struct Gobgp {
    /// The daemon.
    pub program: Program,
    _scratch: Scratch,
}

impl Gobgp {
    /// Starts a reflector of AS 65000 at 203.0.113.`number` for VTEPs at 203.0.113.N.
    ///
    /// # Panics
    /// If it does not answer within 20 s.
    #[must_use]
    pub fn reflector(ns: &Netns, number: u8, clients: &[u8]) -> Self {
        Self::start(ns, &reflector(number, clients, ""))
    }

    /// As [`Gobgp::reflector`], with graceful restart: it retains the routes of a restarting client
    /// (RFC 4724).
    ///
    /// # Panics
    /// If it does not answer within 20 s.
    #[must_use]
    pub fn keeping_reflector(ns: &Netns, number: u8, clients: &[u8]) -> Self {
        Self::start(
            ns,
            &reflector(
                number,
                clients,
                "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 60\n",
            ),
        )
    }

    /// As [`Gobgp::keeping_reflector`], in helper mode: it preserves nothing over restarts of its own,
    /// and so lists no address family in its capability.
    ///
    /// # Panics
    /// If it does not answer within 20 s.
    #[must_use]
    pub fn helping_reflector(ns: &Netns, number: u8, clients: &[u8]) -> Self {
        Self::start(
            ns,
            &reflector(
                number,
                clients,
                "[neighbors.graceful-restart.config]\nenabled = true\nhelper-only = true\n\
                 restart-time = 60\n",
            ),
        )
    }

    /// Starts gobgpd of the current [`Release`].
    fn start(ns: &Netns, config: &str) -> Self {
        let root = Release::current().root();
        let scratch = root.map_or_else(
            || Scratch::new(ns),
            |root| Scratch::below(&root.join("tmp"), ns),
        );
        let file = scratch.path().join("gobgpd.toml");
        std::fs::write(&file, config).expect("the scratch directory can be written");
        let shown = root.map_or(&*file, |root| {
            file.strip_prefix(root).expect("it is below the root")
        });
        let shown = Path::new("/").join(shown);
        let words = [
            "gobgpd",
            "-f",
            shown.to_str().expect("ASCII"),
            "-t",
            "toml",
            "--disable-stdlog",
            "--log-plain",
        ];
        let mut program = Program::start_in(ns, root, scratch.path(), &words);
        program.wait_until("gobgp is answered", 20, |_| {
            ns.try_run("gobgp neighbor").status.success()
        });
        Self {
            program,
            _scratch: scratch,
        }
    }
}

/// `restart` is added to the table of each neighbor; if it is not empty, graceful restart is
/// enabled for the address family too.
fn reflector(number: u8, clients: &[u8], restart: &str) -> String {
    let mut config = format!(
        "[global.config]\nas = 65000\nrouter-id = \"{}\"\n",
        vtep4(number)
    );
    for client in clients {
        let _ = write!(
            config,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = 65000\n\
             [neighbors.timers.config]\nhold-time = 9\nkeepalive-interval = 3\nconnect-retry = 1\n\
             [neighbors.route-reflector.config]\nroute-reflector-client = true\n\
             route-reflector-cluster-id = \"{}\"\n\
             {restart}\
             [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"l2vpn-evpn\"\n",
            vtep4(*client),
            vtep4(number)
        );
        if !restart.is_empty() {
            config.push_str("[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n");
        }
    }
    config
}
