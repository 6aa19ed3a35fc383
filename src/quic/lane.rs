//! Lanes: bidirectional streams of frames. A frame is a big-endian length of four bytes and that many bytes, one at least.
//!
//! Promises: a frame's length is checked before memory is taken for it; memory grows with what has arrived, never with
//! what was announced; a frame that lies within one packet is not copied. Not here: what a frame means, but for the version
//! that it begins with.

use super::Ended;
use bytes::{Buf, Bytes, BytesMut};
use mimi_actors::wire::{self, Unwritten, Versioned, version::NotInVersion};
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

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
}

impl LaneSender {
    pub(super) fn new(stream: SendStream, version: Option<u8>) -> Self {
        Self {
            stream,
            headers: BytesMut::new(),
            version,
            torn: false,
        }
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
        let version = self.version.unwrap_or(T::FORMAT.newest);
        self.send(wire::encode_in(version, value, bytes)?).await
    }

    /// Sends one frame, waiting for the receiver's window. Dropped halfway, it closes the lane.
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
        self.stream.write_all_chunks(pieces).await?;
        self.torn = false;
        Ok(())
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
        loop {
            if let Some(frame) = self.take(frame_bytes_max)? {
                self.began = None;
                return Ok(Some(frame));
            }
            if self.frame.has_begun() && self.began.is_none() {
                self.began = Some(Instant::now());
            }
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
