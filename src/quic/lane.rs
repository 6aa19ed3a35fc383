//! Lanes: bidirectional streams of frames. A frame is a big-endian length of four bytes and that many bytes, one at least.
//!
//! Promises: a frame's length is checked before memory is taken for it; memory grows with what has arrived, never with
//! what was announced, and the large frames of one connection have so much together; a frame that lies within one packet is
//! not copied; who does not take what is sent loses the lane. Not here: what a frame means, but for the version that it
//! begins with.

use super::{Ended, code};
use bytes::{Buf, Bytes, BytesMut};
use mimi_actors::{
    limits::{LANE_STALL_S_MAX, LANE_WRITE_S_MAX},
    wire::{self, Unwritten, Versioned, version::NotInVersion},
};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Length of a frame's header, in bytes.
const HEADER_BYTES: usize = 4;
/// Pieces that are taken from the connection at a time, at most; a piece is what one packet carried.
const PIECES_MAX: usize = 32;
/// Memory taken at once for a frame that has begun, in bytes; it doubles as the frame arrives.
const FRAME_BEGINS_BYTES: usize = 64 << 10;
/// Bytes of most values.
const VALUE_BYTES: usize = 256;
/// Memory for headers is taken for this many frames at once.
const HEADERS_AT_ONCE: usize = 128;

/// Why a lane gives no frame or takes none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// A frame announces more bytes than it may have; nothing of it was kept.
    #[error("a frame of {bytes} bytes, the limit is {max}")]
    FrameTooLarge {
        /// What it announces.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A frame without a byte.
    #[error("an empty frame")]
    Empty,
    /// The lane ended inside a frame.
    #[error("the lane ended inside a frame")]
    Truncated,
    /// A frame that had begun did not end in time.
    #[error("a frame did not end in time")]
    Deadline,
    /// The other side did not take a frame in time.
    #[error("the other side did not take a frame in time")]
    NotTaken,
    /// The version that was agreed has no word for a value.
    #[error(transparent)]
    Unwritten(#[from] Unwritten),
    /// The other side reset the lane, or does not want the rest of it.
    #[error("the other side gave the lane up (code {code})")]
    GivenUp {
        /// Its code.
        code: u32,
    },
    /// This side has finished, reset or stopped the lane, or dropped a `send` halfway.
    #[error("the lane is closed on this side")]
    Closed,
    /// The connection has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
}

impl From<ReadError> for LaneError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::given_up(code),
            ReadError::ConnectionLost(why) => Self::Ended(why.into()),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Closed,
        }
    }
}

impl From<WriteError> for LaneError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stopped(code) => Self::given_up(code),
            WriteError::ConnectionLost(why) => Self::Ended(why.into()),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => Self::Closed,
        }
    }
}

impl LaneError {
    fn given_up(code: VarInt) -> Self {
        let code = u32::try_from(code.into_inner()).unwrap_or(u32::MAX);
        Self::GivenUp { code }
    }
}

/// The sending half of a lane.
#[derive(Debug)]
pub struct LaneSender {
    stream: SendStream,
    headers: BytesMut,
    /// The version in which values are written, where one was agreed with the other side.
    version: Option<u8>,
    /// A `send` was dropped halfway: another frame would be read as the rest of that one.
    torn: bool,
    patience: Patience,
}

/// How long the other side may take to make room for a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a byte of it.
    pub(super) stall: Duration,
    /// For all of it.
    pub(super) whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(LANE_STALL_S_MAX),
            whole: Duration::from_secs(LANE_WRITE_S_MAX),
        }
    }
}

impl LaneSender {
    pub(super) fn new(stream: SendStream, version: Option<u8>) -> Self {
        Self {
            stream,
            headers: BytesMut::new(),
            version,
            torn: false,
            patience: Patience::default(),
        }
    }

    /// The same, with less patience than there is.
    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// From now on values are written in this version: that of what the other side sent on this lane.
    pub fn speak(&mut self, version: u8) {
        self.version = Some(version);
    }

    /// Whether a value can be sent in the version that was agreed.
    ///
    /// # Errors
    /// [`NotInVersion`] when that version has no word for it.
    pub fn takes<T: Versioned>(&self, value: &T) -> Result<(), NotInVersion> {
        value.is_in(self.version.unwrap_or(T::FORMAT.newest))
    }

    /// Sends one value in the version that was agreed, or in the newest.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`LaneError::Unwritten`] when the version has no word for it: nothing was sent then.
    pub async fn write<T: Versioned>(&mut self, value: &T) -> Result<(), LaneError> {
        self.write_sized(value, VALUE_BYTES).await
    }

    /// As [`write`](Self::write), with room for about `bytes` from the start.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_sized<T: Versioned>(
        &mut self,
        value: &T,
        bytes: usize,
    ) -> Result<(), LaneError> {
        let frame = self.encode(value, bytes)?;
        self.send(frame).await
    }

    /// One value as it would be written, for [`send`](Self::send).
    ///
    /// # Errors
    /// [`LaneError::Unwritten`] when the version has no word for it.
    pub fn frame<T: Versioned>(&self, value: &T) -> Result<Bytes, LaneError> {
        self.encode(value, VALUE_BYTES)
    }

    fn encode<T: Versioned>(&self, value: &T, bytes: usize) -> Result<Bytes, LaneError> {
        let version = self.version.unwrap_or(T::FORMAT.newest);
        Ok(wire::encode_in(version, value, bytes)?)
    }

    /// Sends one frame, waiting for the receiver's window, but not for ever: who does not read loses the lane. Dropped
    /// halfway, it closes the lane.
    ///
    /// # Errors
    /// [`LaneError`] when the lane or the connection is lost, or the frame is empty.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), LaneError> {
        let header = self.header(frame.len())?;
        self.write_pieces(&mut [header, frame]).await
    }

    /// Sends one frame that lies in several parts, as [`send`](Self::send) does, without joining them.
    ///
    /// # Errors
    /// As [`send`](Self::send); a frame is empty when all its parts are.
    pub async fn send_vectored(&mut self, parts: &[Bytes]) -> Result<(), LaneError> {
        let header = self.header(parts.iter().map(Bytes::len).sum())?;
        let mut pieces = Vec::with_capacity(1 + parts.len());
        pieces.push(header);
        pieces.extend(parts.iter().filter(|part| !part.is_empty()).cloned());
        self.write_pieces(&mut pieces).await
    }

    fn header(&mut self, bytes: usize) -> Result<Bytes, LaneError> {
        let max = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        let announced =
            u32::try_from(bytes).map_err(|_| LaneError::FrameTooLarge { bytes, max })?;
        if announced == 0 {
            return Err(LaneError::Empty);
        }
        if self.headers.capacity() < HEADER_BYTES {
            self.headers.reserve(HEADERS_AT_ONCE * HEADER_BYTES);
        }
        self.headers.extend_from_slice(&announced.to_be_bytes());
        Ok(self.headers.split().freeze())
    }

    async fn write_pieces(&mut self, pieces: &mut [Bytes]) -> Result<(), LaneError> {
        if self.torn {
            return Err(LaneError::Closed);
        }
        self.torn = true;
        let Patience { stall, whole } = self.patience;
        let end = Instant::now() + whole;
        let mut left = pieces;
        while !left.is_empty() {
            let until = end.min(Instant::now() + stall);
            let written = tokio::time::timeout_at(until, self.stream.write_chunks(left)).await;
            let Ok(written) = written else {
                self.reset(code::DEADLINE);
                return Err(LaneError::NotTaken);
            };
            left = left.get_mut(written?.chunks..).unwrap_or_default();
        }
        self.torn = false;
        Ok(())
    }

    /// Waits until the other side has all that was sent, or wants none of it.
    pub async fn delivered(&self) {
        // A connection that is lost delivers nothing.
        drop(self.stream.stopped().await);
    }

    /// Says that no more frames will come.
    ///
    /// # Errors
    /// [`LaneError::Closed`] when that was said before, or the last `send` was dropped halfway.
    pub fn finish(&mut self) -> Result<(), LaneError> {
        if self.torn {
            return Err(LaneError::Closed);
        }
        self.stream.finish().map_err(|_| LaneError::Closed)
    }

    /// Sets how urgent the lane's bytes are among the lanes of its connection; higher goes first, 0 is usual.
    pub fn set_priority(&self, priority: i32) {
        // A lane that has ended has nothing left to send.
        drop(self.stream.set_priority(priority));
    }

    /// The stream under the lane, for bytes that are no frames.
    #[cfg(test)]
    pub(super) fn raw(&mut self) -> &mut SendStream {
        &mut self.stream
    }

    /// Ends the lane abruptly, with a code.
    pub fn reset(&mut self, code: u32) {
        // It may have ended already.
        drop(self.stream.reset(VarInt::from_u32(code)));
    }
}

/// The receiving half of a lane.
#[derive(Debug)]
pub struct LaneReceiver {
    stream: RecvStream,
    /// What has arrived behind the frame that is being read.
    pieces: VecDeque<Bytes>,
    frame: Frame,
    /// When the frame that is being read began.
    began: Option<Instant>,
    /// What the large frames of the connection may have together, where that is bounded.
    budget: Option<Budget>,
    /// What of it the frame has that is being read, or was read last.
    held: Option<OwnedSemaphorePermit>,
}

/// What the large frames of one connection may have of memory while they are read and looked at.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: u32,
    free: Arc<Semaphore>,
}

impl Budget {
    pub(super) fn new(bytes: u32) -> Self {
        let permits = usize::try_from(bytes).unwrap_or(usize::MAX);
        let free = Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { bytes, free }
    }
}

/// As much of a frame as has been read.
#[derive(Debug)]
enum Frame {
    Header {
        bytes: [u8; HEADER_BYTES],
        read: usize,
    },
    Body {
        bytes: usize,
        read: BytesMut,
    },
}

impl Frame {
    const START: Self = Self::Header {
        bytes: [0; HEADER_BYTES],
        read: 0,
    };

    /// Takes what belongs to the frame from `piece`; gives the body once it is whole.
    fn take(&mut self, piece: &mut Bytes, max: usize) -> Result<Option<Bytes>, LaneError> {
        if let Self::Header { bytes, read } = self {
            for place in bytes.iter_mut().skip(*read) {
                let Ok(byte) = piece.try_get_u8() else {
                    return Ok(None);
                };
                *place = byte;
                *read += 1;
            }
            let announced = u32::from_be_bytes(*bytes);
            *self = Self::Body {
                bytes: usize::try_from(announced).unwrap_or(usize::MAX),
                read: BytesMut::new(),
            };
        }
        let Self::Body { bytes, read } = self else {
            return Ok(None);
        };
        let bytes = *bytes;
        if bytes == 0 {
            return Err(LaneError::Empty);
        }
        if bytes > max {
            return Err(LaneError::FrameTooLarge { bytes, max });
        }
        let missing = bytes - read.len();
        if read.is_empty() {
            if piece.len() >= bytes {
                *self = Self::START;
                return Ok(Some(piece.split_to(bytes)));
            }
            read.reserve(bytes.min(FRAME_BEGINS_BYTES));
        }
        read.extend_from_slice(&piece.split_to(missing.min(piece.len())));
        if read.len() < bytes {
            return Ok(None);
        }
        let whole = read.split().freeze();
        *self = Self::START;
        Ok(Some(whole))
    }

    fn has_begun(&self) -> bool {
        !matches!(self, Self::Header { read: 0, .. })
    }
}

impl LaneReceiver {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            pieces: VecDeque::new(),
            frame: Frame::START,
            began: None,
            budget: None,
            held: None,
        }
    }

    /// The same, whose large frames wait until there is memory for them among those of their connection. A frame has it
    /// until the next is asked for.
    pub(super) fn within(self, budget: &Budget) -> Self {
        Self {
            budget: Some(budget.clone()),
            ..self
        }
    }

    /// The next frame, or `None` when the lane has ended between frames.
    ///
    /// A frame that has begun must end within `deadline`; the wait for one to begin is not limited. May be dropped and
    /// called again without losing a byte. A frame may share the memory of the packet that brought it: copy what is
    /// kept for long.
    ///
    /// # Errors
    /// [`LaneError`]; the limit is checked from the header, before memory is taken. The lane is then of no more use.
    pub async fn next(
        &mut self,
        frame_bytes_max: usize,
        deadline: Option<Duration>,
    ) -> Result<Option<Bytes>, LaneError> {
        if !self.frame.has_begun() {
            self.held = None;
        }
        loop {
            if let Some(frame) = self.take(frame_bytes_max)? {
                self.began = None;
                return Ok(Some(frame));
            }
            if self.frame.has_begun() && self.began.is_none() {
                self.began = Some(Instant::now());
            }
            self.wait_for_memory(deadline).await?;
            let mut pieces = [const { Bytes::new() }; PIECES_MAX];
            let reading = self.stream.read_chunks(&mut pieces);
            let read = match (self.began, deadline) {
                (Some(began), Some(deadline)) => {
                    let read = tokio::time::timeout_at(began + deadline, reading).await;
                    read.map_err(|_| LaneError::Deadline)??
                }
                (None, _) | (_, None) => reading.await?,
            };
            match read {
                Some(read) => self.pieces.extend(pieces.into_iter().take(read)),
                None if self.frame.has_begun() => return Err(LaneError::Truncated),
                None => return Ok(None),
            }
        }
    }

    /// Waits until the frame that has begun may have the memory that it announces.
    async fn wait_for_memory(&mut self, deadline: Option<Duration>) -> Result<(), LaneError> {
        let (Frame::Body { bytes, .. }, Some(budget), None) =
            (&self.frame, &self.budget, &self.held)
        else {
            return Ok(());
        };
        if *bytes <= FRAME_BEGINS_BYTES {
            return Ok(());
        }
        // A frame that is larger than all of it is read alone.
        let bytes = u32::try_from(*bytes).unwrap_or(u32::MAX).min(budget.bytes);
        let memory = Arc::clone(&budget.free).acquire_many_owned(bytes);
        let memory = match (self.began, deadline) {
            (Some(began), Some(deadline)) => {
                let memory = tokio::time::timeout_at(began + deadline, memory).await;
                memory.map_err(|_| LaneError::Deadline)?
            }
            (None, _) | (_, None) => memory.await,
        };
        // Nobody closes it.
        self.held = Some(memory.map_err(|_| LaneError::Closed)?);
        Ok(())
    }

    /// Takes the next whole frame out of what has arrived.
    fn take(&mut self, frame_bytes_max: usize) -> Result<Option<Bytes>, LaneError> {
        while let Some(piece) = self.pieces.front_mut() {
            let frame = self.frame.take(piece, frame_bytes_max)?;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    /// Memory that is held for the frame being read.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.frame {
            Frame::Header { .. } => 0,
            Frame::Body { read, .. } => read.capacity(),
        }
    }

    /// Asks the sender to stop, with a code.
    pub fn stop(&mut self, code: u32) {
        // It may have ended already.
        drop(self.stream.stop(VarInt::from_u32(code)));
    }
}
