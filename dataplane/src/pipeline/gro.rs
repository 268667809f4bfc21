//! Joins consecutive TCP segments of a burst into superframes (generic receive offload), for tenants
//! whose devices take them: such a frame costs the tenant's kernel as much as a single segment.
//!
//! ```text
//! frames of a burst -> offer -> open trains, one for each connection -> ready frames, in order
//!                           \-> everything else is ready at once
//! end of the burst  -> finish: all trains are ready
//! ```
//!
//! A train is closed as in the kernel: by a segment that ends it (shorter, PSH, FIN), by one of the
//! same connection that does not continue it, and when there are too many. Nothing is held beyond a
//! burst, and frames of one connection stay in order. A segment is joined only if its checksum is
//! valid; a frame that is not joined leaves as it came.

use std::collections::VecDeque;

use super::gro_headers::{self, Parsed, TcpSegment, Train};
use crate::addr::PortId;
use crate::frame::assembly::ChainBuilder;
use crate::frame::{Frame, FrameMemory, Pool};

/// Maximum number of connections whose segments are held at a time; the kernel has 8 buckets of 8
/// (`MAX_GRO_SKBS`, net/core/gro.c), but a longer burst.
pub const MAX_TRAINS: usize = 16;

/// The segments of a burst that may still be joined. Allocates only in [`Gro::new`].
#[derive(Debug)]
pub struct Gro {
    /// The oldest first.
    trains: Vec<OpenTrain>,
    ready: VecDeque<(PortId, Frame)>,
}

#[derive(Debug)]
struct OpenTrain {
    port: PortId,
    train: Train,
    frame: ChainBuilder,
}

impl Default for Gro {
    fn default() -> Self {
        Self::new()
    }
}

impl Gro {
    /// Holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            trains: Vec::with_capacity(MAX_TRAINS),
            ready: VecDeque::with_capacity(MAX_TRAINS + 1),
        }
    }

    /// Takes a frame for `port`. Afterwards all frames of [`Gro::next_ready`] must be taken.
    pub fn offer<M: FrameMemory>(&mut self, pool: &mut Pool<M>, port: PortId, frame: Frame) {
        debug_assert!(self.ready.is_empty(), "all ready frames must be taken");
        let parsed = if frame.has_offload() {
            // A superframe already, of any connection.
            Parsed::OtherTcp
        } else {
            gro_headers::parse(pool.memory().bytes(&frame), frame.len())
        };
        match parsed {
            Parsed::Segment(segment) => self.offer_segment(pool, port, frame, segment),
            Parsed::OtherTcp => {
                // It may belong to any connection of the port.
                while let Some(at) = self.trains.iter().position(|open| open.port == port) {
                    self.close(pool, at);
                }
                self.ready.push_back((port, frame));
            }
            Parsed::Other => self.ready.push_back((port, frame)),
        }
    }

    fn offer_segment<M: FrameMemory>(
        &mut self,
        pool: &mut Pool<M>,
        port: PortId,
        mut frame: Frame,
        segment: TcpSegment,
    ) {
        if let Some(at) = self.find(pool.memory(), port, &frame, segment) {
            match self.join(pool, at, frame, segment) {
                Ok(true) => return self.close(pool, at),
                Ok(false) => return,
                Err(not_joined) => {
                    frame = not_joined;
                    self.close(pool, at);
                }
            }
        }
        if !segment.may_start() || !is_intact(pool.memory(), &frame, segment) {
            return self.ready.push_back((port, frame));
        }
        if self.trains.len() == MAX_TRAINS {
            self.close(pool, 0);
        }
        self.trains.push(OpenTrain {
            port,
            train: Train::new(segment),
            frame: ChainBuilder::of(pool.memory().buffers(), frame),
        });
    }

    /// The train of the segment's connection.
    #[inline]
    fn find<M: FrameMemory>(
        &self,
        memory: &M,
        port: PortId,
        frame: &Frame,
        segment: TcpSegment,
    ) -> Option<usize> {
        let head = memory.bytes(frame);
        self.trains.iter().position(|open| {
            let first = memory.bytes(open.frame.frame());
            open.port == port && open.train.first().is_same_connection(first, segment, head)
        })
    }

    /// Appends a segment to the train at `at`. True when no other may follow.
    ///
    /// # Errors
    /// The frame, unchanged, when it does not continue the train.
    fn join<M: FrameMemory>(
        &mut self,
        pool: &mut Pool<M>,
        at: usize,
        mut frame: Frame,
        segment: TcpSegment,
    ) -> Result<bool, Frame> {
        let memory = pool.memory();
        let OpenTrain {
            train,
            frame: joined,
            ..
        } = &mut self.trains[at];
        let (first, head) = (memory.bytes(joined.frame()), memory.bytes(&frame));
        if !train.is_continued(first, segment, head) || !is_intact(memory, &frame, segment) {
            return Err(frame);
        }
        let mut longer = *train;
        let is_last = longer.add(first, segment, head);
        if frame.trim_front(segment.headers()).is_err() {
            return Err(frame);
        }
        match joined.push(memory.buffers(), frame) {
            Ok(()) => {
                *train = longer;
                Ok(is_last)
            }
            // Too many chunks.
            Err(mut frame) => {
                frame.prepend(segment.headers()).ok();
                Err(frame)
            }
        }
    }

    /// Makes the frame of the train at `at` ready.
    fn close<M: FrameMemory>(&mut self, pool: &mut Pool<M>, at: usize) {
        let OpenTrain { port, train, frame } = self.trains.remove(at);
        let mut frame = frame.finish();
        let start = frame.start();
        let head = pool.memory_mut().bytes_mut(&mut frame);
        if let Some(offload) = train.finish(head, start) {
            pool.memory().buffers().set_offload(&mut frame, offload);
        }
        self.ready.push_back((port, frame));
    }

    /// Whether no segment is held.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// Makes all trains ready, at the end of a burst.
    pub fn finish<M: FrameMemory>(&mut self, pool: &mut Pool<M>) {
        while !self.trains.is_empty() {
            self.close(pool, 0);
        }
    }

    /// The next frame to send, in order: as it came, or joined from several
    /// ([`crate::frame::offload::Offload`]).
    #[inline]
    pub fn next_ready(&mut self) -> Option<(PortId, Frame)> {
        self.ready.pop_front()
    }
}

/// Whether the segment's checksum is valid.
#[inline]
fn is_intact<M: FrameMemory>(memory: &M, frame: &Frame, segment: TcpSegment) -> bool {
    let sum = memory.sum(frame, segment.tcp()..frame.len());
    segment.is_intact(memory.bytes(frame), sum)
}
