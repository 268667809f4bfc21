//! The same TCP segments joined by Linux, behind a tap that receives like a NIC, and by the pipeline.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use vtep_dataplane::addr::PortId;
use vtep_dataplane::afxdp::UmemMemory;
use vtep_dataplane::frame::offload::{ChecksumState, Offload};
use vtep_dataplane::frame::{Frame, FrameMemory, Pool};
use vtep_dataplane::packet::{PacketDevice, PacketPort};
use vtep_dataplane::pipeline::gro::Gro;
use vtep_dataplane::port::Port;

use self::cases::Case;
use crate::fixture::{Child, Netns, own_umem};
use crate::packet::make;

#[path = "../../src/pipeline/tests/gro_cases.rs"]
mod cases;

const HELPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/tools/frames.py");

/// How often Linux may be asked for the same case.
const ATTEMPTS: usize = 20;

/// What leaves: bytes, and the offload with offsets from the start of the frame.
type Left = Vec<(Vec<u8>, Offload)>;

fn look(pool: &Pool<UmemMemory>, frame: &Frame) -> (Vec<u8>, Offload) {
    let mut bytes = vec![0; frame.len()];
    pool.memory().read(frame, &mut bytes);
    let mut offload = pool.memory().buffers().offload(frame);
    match &mut offload.checksum {
        ChecksumState::Partial { start, .. } => *start -= frame.start(),
        // Linux says so of each segment whose checksum it has verified.
        state => *state = ChecksumState::Unknown,
    }
    (bytes, offload)
}

fn by_pipeline(pool: &mut Pool<UmemMemory>, case: &Case) -> Left {
    let (mut gro, mut left) = (Gro::new(), Vec::new());
    for at in 0..=case.frames.len() {
        match case.frames.get(at) {
            Some(bytes) => {
                let frame = make(pool, bytes);
                gro.offer(pool, PortId(0), frame);
            }
            None => gro.finish(pool),
        }
        while let Some((_, frame)) = gro.next_ready() {
            left.push(look(pool, &frame));
            pool.free(frame);
        }
    }
    left
}

/// What arrives until all segments have, or nothing does for some time.
fn by_linux(port: &mut PacketPort, pool: &mut Pool<UmemMemory>, bytes: usize) -> Left {
    let (mut left, mut burst) = (Left::new(), Vec::new());
    let mut deadline = Instant::now() + Duration::from_millis(100);
    let payload = |left: &Left| left.iter().map(|(bytes, _)| bytes.len()).sum::<usize>();
    while Instant::now() < deadline && payload(&left) < bytes {
        if port.receive(pool, &mut burst) > 0 {
            deadline = Instant::now() + Duration::from_millis(100);
        }
        for frame in burst.drain(..) {
            left.push(look(pool, &frame));
            pool.free(frame);
        }
    }
    left
}

fn counts(left: &Left) -> Vec<(usize, Option<u16>)> {
    left.iter()
        .map(|(bytes, offload)| (bytes.len(), offload.segmentation.map(|to| to.size)))
        .collect()
}

#[test]
fn segments_are_joined_as_linux_joins_them() {
    let netns = Netns::new();
    let mut helper = Child(
        netns
            .exec()
            .args(["/usr/bin/python3", HELPER, "napi", "tap0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut input = helper.0.stdin.take().unwrap();
    let mut output = BufReader::new(helper.0.stdout.take().unwrap()).lines();
    assert_eq!(output.next().unwrap().unwrap(), "ready");
    netns.ip("link set tap0 up addrgenmode none mtu 9000");
    let umem = own_umem();
    let mut port = PacketDevice::open("tap0")
        .unwrap()
        .bind(0, 1, &umem)
        .unwrap();
    let mut pool = umem.pools(1).unwrap().remove(0);
    for case in cases::all().into_iter().filter(|case| case.as_linux) {
        let mut ours = by_pipeline(&mut pool, &case);
        assert_eq!(ours.len(), case.joined.len(), "{}", case.name);
        let bytes = ours.iter().map(|(bytes, _)| bytes.len()).sum();
        // Linux does not keep a corrupt segment behind those that came before it.
        ours.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut theirs = Left::new();
        // A tick of the kernel's clock ends all trains: it then joins less than at another attempt.
        for _ in 0..ATTEMPTS {
            for frame in &case.frames {
                let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(input, "{hex}").unwrap();
            }
            writeln!(input).unwrap();
            theirs = by_linux(&mut port, &mut pool, bytes);
            theirs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            if theirs == ours {
                break;
            }
        }
        let (wanted, got) = (counts(&ours), counts(&theirs));
        assert!(
            theirs == ours,
            "{}: Linux {got:?}, we {wanted:?}",
            case.name
        );
    }
}
