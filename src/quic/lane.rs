//! Lanes: bidirectional streams of frames. A frame is a big-endian length of four bytes and that many bytes.

use bytes::{Buf, Bytes, BytesMut};
use quinn::{RecvStream, SendStream, VarInt};
use std::time::Duration;
use tokio::time::Instant;

/// Length of a frame's header, in bytes.
const HEADER_BYTES: usize = 4;
/// Bytes read from the connection at a time, at most.
const READ_BYTES_MAX: usize = 1 << 20;

/// Why a lane gives no frame or takes none.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// A frame claims more bytes than it may have; nothing of it was read.
    #[error("a frame of {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// What it claims.
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
    /// The connection or the lane was lost while reading.
    #[error(transparent)]
    Read(#[from] quinn::ReadError),
    /// The connection or the lane was lost while writing.
    #[error(transparent)]
    Write(#[from] quinn::WriteError),
    /// The lane was finished before.
    #[error(transparent)]
    Closed(#[from] quinn::ClosedStream),
    /// The connection was lost.
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
}

/// The sending half of a lane.
#[derive(Debug)]
pub struct LaneSender(pub(super) SendStream);

impl LaneSender {
    /// Sends one frame, waiting for the receiver's window.
    ///
    /// # Errors
    /// [`LaneError`] when the lane or the connection is lost, or the frame is empty.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), LaneError> {
        let length = u32::try_from(frame.len()).ok().filter(|length| *length > 0);
        let header = length.ok_or(LaneError::Empty)?.to_be_bytes();
        let mut parts = [Bytes::copy_from_slice(&header), frame];
        Ok(self.0.write_all_chunks(&mut parts).await?)
    }

    /// No more frames will come.
    ///
    /// # Errors
    /// [`LaneError::Closed`] when that was said before.
    pub fn finish(&mut self) -> Result<(), LaneError> {
        Ok(self.0.finish()?)
    }

    /// Ends the lane abruptly, with a code.
    pub fn reset(&mut self, code: u32) {
        // It may have ended already.
        drop(self.0.reset(VarInt::from_u32(code)));
    }
}

/// The receiving half of a lane.
#[derive(Debug)]
pub struct LaneReceiver {
    stream: RecvStream,
    buffer: BytesMut,
    /// When the frame that is being read began.
    began: Option<Instant>,
}

impl LaneReceiver {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self { stream, buffer: BytesMut::new(), began: None }
    }

    /// The next frame, or `None` when the lane has ended between frames.
    ///
    /// A frame that has begun must end within `deadline`; the wait for one to begin is not limited. May be dropped and
    /// called again without losing a byte.
    ///
    /// # Errors
    /// [`LaneError`]; the limit is checked from the header, before memory is taken.
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
            if !self.buffer.is_empty() && self.began.is_none() {
                self.began = Some(Instant::now());
            }
            let reading = self.stream.read_chunk(READ_BYTES_MAX, true);
            let chunk = match (self.began, deadline) {
                (Some(began), Some(deadline)) => {
                    let read = tokio::time::timeout_at(began + deadline, reading).await;
                    read.map_err(|_| LaneError::Deadline)??
                }
                _ => reading.await?,
            };
            match chunk {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(LaneError::Truncated),
            }
        }
    }

    /// Takes a whole frame out of the buffer, if there is one.
    fn take(&mut self, max: usize) -> Result<Option<Bytes>, LaneError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let bytes = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if bytes == 0 {
            return Err(LaneError::Empty);
        }
        if bytes > max {
            return Err(LaneError::TooLarge { bytes, max });
        }
        if self.buffer.len() < HEADER_BYTES + bytes {
            let missing = HEADER_BYTES + bytes - self.buffer.len();
            self.buffer.reserve(missing);
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(self.buffer.split_to(bytes).freeze()))
    }

    /// Asks the sender to stop, with a code.
    pub fn stop(&mut self, code: u32) {
        // It may have ended already.
        drop(self.stream.stop(VarInt::from_u32(code)));
    }
}
