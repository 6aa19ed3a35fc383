//! Lanes: bidirectional streams of frames. A frame is a big-endian length of four bytes and that many bytes, one at least.
//!
//! Here they are sent: who does not take what is sent loses the lane. How they are read is in `reading`. Not here: what a
//! frame means, but for the version that it begins with.

use super::{Ended, code};
use bytes::{Bytes, BytesMut};
use mimi_actors::{
    limits::{LANE_STALL_S_MAX, LANE_WRITE_S_MAX},
    wire::{self, Unwritten, Versioned, version::NotInVersion},
};
use quinn::{ReadError, SendStream, VarInt, WriteError};
use std::time::Duration;
use tokio::time::Instant;

/// Length of a frame's header, in bytes.
pub(super) const HEADER_BYTES: usize = 4;
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
