//! Configuration files of vtepd.

use std::cell::Cell;
use std::net::IpAddr;

/// The kinds of sockets of a port and of the underlay: values of `io` and `underlay-io`.
pub const IO_KINDS: [&str; 2] = ["xdp", "packet"];

/// A configuration file to build. Tables appear in the order in which the methods are called.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Lines of `[control]` in addition to the socket.
    control: String,
    /// `io` of the ports that follow; the default if empty.
    io: String,
    text: String,
}

thread_local! {
    /// The kind of underlay of the configurations that this thread makes.
    static UNDERLAY_IO: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Runs `scenario` over an underlay of each kind.
///
/// # Panics
/// When the scenario does, after the kind was printed.
pub fn each_underlay(scenario: impl Fn()) {
    for io in IO_KINDS {
        over_underlay(io, &scenario);
    }
}

/// Runs `scenario` over an underlay of one kind.
///
/// # Panics
/// When the scenario does, after the kind was printed.
pub fn over_underlay(io: &'static str, scenario: impl FnOnce()) {
    println!("underlay-io = {io:?}");
    UNDERLAY_IO.set(Some(io));
    scenario();
    UNDERLAY_IO.set(None);
}

/// The line that makes scenarios run over an underlay of one kind: that of [`each_underlay`], else the
/// one that the variable `VTEP_TEST_UNDERLAY_IO` names.
fn underlay_io() -> String {
    let io = UNDERLAY_IO.get().map(str::to_owned);
    let io = io.or_else(|| std::env::var("VTEP_TEST_UNDERLAY_IO").ok());
    io.map_or_else(String::new, |io| format!("underlay-io = \"{io}\"\n"))
}

impl Config {
    /// A VTEP at `address` on `eth0`, with one worker.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self::with_underlay(address, "eth0")
    }

    /// A VTEP at `address` whose underlay is `interfaces` (separated by blanks), with one worker.
    #[must_use]
    pub fn with_underlay(address: IpAddr, interfaces: &str) -> Self {
        let list: Vec<String> = interfaces
            .split_whitespace()
            .map(|i| format!("\"{i}\""))
            .collect();
        let text = format!(
            "[vtep]\naddress = \"{address}\"\nunderlay = [{}]\ncores = [0]\n",
            list.join(", ")
        );
        let text = text + &underlay_io();
        Self {
            control: String::new(),
            io: String::new(),
            text,
        }
    }

    /// The kind of the underlay.
    #[must_use]
    pub fn underlay_io(mut self, io: &str) -> Self {
        let line = format!("underlay-io = \"{io}\"\n");
        self.text = self.text.replace(&underlay_io(), "");
        self.text.push_str(&line);
        self
    }

    /// The `io` of all ports that follow.
    #[must_use]
    pub fn io(mut self, io: &str) -> Self {
        self.io = format!("io = \"{io}\"");
        self
    }

    /// A line of `[control]`.
    #[must_use]
    pub fn control(mut self, line: &str) -> Self {
        self.control.push_str(line);
        self.control.push('\n');
        self
    }

    /// With `count` workers, on cores 0 and up.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        let cores: Vec<usize> = (0..count).collect();
        self.text = self
            .text
            .replace("cores = [0]", &format!("cores = {cores:?}"));
        self
    }

    /// With its worker on core `place`, modulo the number of cores, so that two hypervisors use
    /// different ones.
    #[must_use]
    pub fn core(mut self, place: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.text = self
            .text
            .replace("cores = [0]", &format!("cores = [{}]", place % cores));
        self
    }

    /// With `second` as a second VTEP address, of the other family.
    #[must_use]
    pub fn both_families(mut self, second: IpAddr) -> Self {
        let line = self
            .text
            .lines()
            .find(|line| line.starts_with("address = "))
            .expect("every VTEP has one")
            .to_owned();
        let first = line.trim_start_matches("address = ");
        self.text = self
            .text
            .replacen(&line, &format!("address = [{first}, \"{second}\"]"), 1);
        self
    }

    /// Lines as given: more keys of the last table, or tables of their own.
    #[must_use]
    pub fn raw(mut self, lines: &str) -> Self {
        self.text.push_str(lines);
        self.text.push('\n');
        self
    }

    /// A VNI that floods to `vteps`.
    #[must_use]
    pub fn vni(self, id: u32, vteps: &[IpAddr]) -> Self {
        let list: Vec<String> = vteps.iter().map(|v| format!("\"{v}\"")).collect();
        self.raw(&format!(
            "[[vni]]\nid = {id}\nflood = [{}]",
            list.join(", ")
        ))
    }

    /// A port of the last VNI, with the hosts behind it.
    #[must_use]
    pub fn port(self, interface: &str, macs: &[String]) -> Self {
        let io = self.io.clone();
        self.raw(&format!(
            "[[vni.port]]\ninterface = \"{interface}\"\nmacs = {macs:?}\n{io}"
        ))
    }

    /// A static entry of the last VNI: `mac` is behind `vtep`.
    #[must_use]
    pub fn fdb(self, mac: &str, vtep: IpAddr) -> Self {
        self.raw(&format!("[[vni.fdb]]\nmac = \"{mac}\"\nvtep = \"{vtep}\""))
    }

    /// The lines of `[control]`.
    pub(crate) fn control_lines(&self) -> &str {
        &self.control
    }

    /// The text, without a control table.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}
