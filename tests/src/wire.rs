//! Frames on the wire: raw frames in and out of an interface, and captures decoded by tshark.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::netns::{Netns, command, must, wait_for};
use crate::program::{Program, command_in};

const HELPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/frames.py");

/// What a [`Raw`] is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any interface, through a packet socket.
    Packet,
    /// The same; what is sent passes tc by, and so the programs of vtepd at its ports.
    Direct,
    /// The same, only to send: each frame has a vnet header of 10 bytes before it (struct
    /// `virtio_net_hdr`), so that it can be a superframe. What the kernel refuses is left out.
    Vnet,
    /// The user-space side of a tap.
    Tap,
    /// One more queue of the user-space side of a multi-queue tap.
    TapQueue,
    /// The same; what is sent has a vnet header before it, as for [`Kind::Vnet`].
    TapVnetQueue,
}

/// Sends and receives whole Ethernet frames on one interface (tools/frames.py).
#[derive(Debug)]
pub struct Raw {
    child: Child,
    input: Option<ChildStdin>,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Raw {
    /// Opens `interface` in `ns`.
    ///
    /// # Panics
    /// If it cannot be opened within 10 s.
    #[must_use]
    pub fn open(ns: &Netns, interface: &str, kind: Kind) -> Self {
        let kind = match kind {
            Kind::Packet => "packet",
            Kind::Direct => "direct",
            Kind::Vnet => "vnet",
            Kind::Tap => "tap",
            Kind::TapQueue => "queue",
            Kind::TapVnetQueue => "vnet-queue",
        };
        let mut child = command_in(ns, &["/usr/bin/python3", HELPER, kind, interface])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv (util-linux) is installed: run scripts/setup");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let received = Arc::new(Mutex::new(Vec::new()));
        let ready = Arc::new(Mutex::new(false));
        let (frames, flag) = (Arc::clone(&received), Arc::clone(&ready));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line == "ready" {
                    *flag.lock().expect("no panic inside") = true;
                } else {
                    frames
                        .lock()
                        .expect("no panic inside")
                        .push(from_hex(&line));
                }
            }
        });
        let raw = Self {
            child,
            input,
            received,
        };
        wait_for(&format!("frames.py on {interface}"), 10, || {
            ready.lock().expect("no panic inside").then_some(())
        });
        raw
    }

    /// Sends one frame, from the destination MAC to the last byte of the payload.
    ///
    /// # Panics
    /// If the helper has exited.
    pub fn send(&mut self, frame: &[u8]) {
        let mut line: String = frame.iter().map(|b| format!("{b:02x}")).collect();
        line.push('\n');
        self.input
            .as_mut()
            .expect("open until dropped")
            .write_all(line.as_bytes())
            .expect("frames.py runs");
    }

    /// Stops reading, as a paused or hung guest does, until [`Raw::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Reads again.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// All frames received so far.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the list.
    #[must_use]
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.received.lock().expect("no panic inside").clone()
    }

    /// The frames received so far that contain `marker`.
    #[must_use]
    pub fn with_marker(&self, marker: &str) -> Vec<Vec<u8>> {
        let contains = |f: &Vec<u8>| f.windows(marker.len()).any(|w| w == marker.as_bytes());
        self.frames().into_iter().filter(contains).collect()
    }

    /// Waits until `count` frames with `marker` have arrived, and 200 ms longer for excess ones;
    /// returns all of them.
    ///
    /// # Panics
    /// If they do not arrive within 5 s.
    #[must_use]
    pub fn expect(&self, marker: &str, count: usize) -> Vec<Vec<u8>> {
        wait_for(&format!("{count} frames with {marker}"), 5, || {
            (self.with_marker(marker).len() >= count).then_some(())
        });
        std::thread::sleep(Duration::from_millis(200));
        self.with_marker(marker)
    }

    /// Removes and returns the frames received so far.
    ///
    /// # Panics
    /// Never: nothing panics while it holds the list.
    #[must_use]
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.received.lock().expect("no panic inside"))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.input = None;
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

fn from_hex(line: &str) -> Vec<u8> {
    (0..line.len() / 2)
        .filter_map(|i| u8::from_str_radix(&line[2 * i..2 * i + 2], 16).ok())
        .collect()
}

/// A running tcpdump that writes a file for tshark.
#[derive(Debug)]
pub struct Capture {
    program: Option<Program>,
    file: PathBuf,
}

impl Capture {
    /// Captures frames that match `filter` (pcap syntax) on `interface`; returns when tcpdump is
    /// ready.
    ///
    /// # Panics
    /// If tcpdump does not start within 10 s.
    #[must_use]
    pub fn start(ns: &Netns, dir: &Path, interface: &str, filter: &str) -> Self {
        let file = dir.join(format!("{}.{interface}.pcap", ns.name()));
        let path = file.to_str().expect("our own names are ASCII");
        let mut words = vec![
            "tcpdump",
            "-i",
            interface,
            "-U",
            "-Z",
            "root",
            "--immediate-mode",
            "-B",
            "16384",
            "-w",
            path,
        ];
        words.extend(filter.split_whitespace());
        let mut program = Program::start(ns, dir, &words);
        program.wait_for_output("listening on", 10);
        Self {
            program: Some(program),
            file,
        }
    }

    /// Stops, and returns the values of `fields` for each frame that matches `filter` (tshark's
    /// display filter syntax). Checksums are verified: `ip.checksum.status`, `tcp.checksum.status`
    /// and `udp.checksum.status` are 1 if correct.
    ///
    /// # Panics
    /// If tshark fails.
    #[must_use]
    pub fn fields(&mut self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        self.stop();
        let mut words = vec![
            "tshark",
            "-r",
            self.file.to_str().expect("ASCII"),
            "-Y",
            filter,
            "-T",
            "fields",
        ];
        for option in [
            "ip.check_checksum:TRUE",
            "tcp.check_checksum:TRUE",
            "udp.check_checksum:TRUE",
        ] {
            words.extend(["-o", option]);
        }
        words.extend(["-E", "separator=/t"]);
        fields.iter().for_each(|f| words.extend(["-e", f]));
        let text = must(&command(60, &words), "tshark");
        text.lines()
            .map(|line| line.split('\t').map(str::to_owned).collect())
            .collect()
    }

    /// Stops, and returns the number of frames that match `filter` (tshark's display filter
    /// syntax).
    #[must_use]
    pub fn count(&mut self, filter: &str) -> usize {
        self.fields(filter, &["frame.number"]).len()
    }

    fn stop(&mut self) {
        if let Some(program) = self.program.take() {
            // tcpdump reads packets once per poll interval; packets sent before this call must be
            // in the file.
            std::thread::sleep(Duration::from_millis(300));
            program.terminate();
        }
    }
}
