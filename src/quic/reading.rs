//! Reading frames from a lane.
//!
//! Promises: a frame's length is checked before memory is taken for it; memory grows with what has arrived, never with
//! what was announced, and the large frames of one connection of a client, or of all connections of a peer, have so much
//! together; a frame that lies within one packet is not copied.

use super::lane::{HEADER_BYTES, LaneError};
use bytes::{Buf, Bytes, BytesMut};
use quinn::{RecvStream, VarInt};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Pieces that are taken from the connection at a time, at most; a piece is what one packet carried.
const PIECES_MAX: usize = 32;
/// Memory taken at once for a frame that has begun, in bytes; it doubles as the frame arrives.
const FRAME_BEGINS_BYTES: usize = 64 << 10;

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

/// What the large frames of one connection, or of all that somebody has, may have of memory while they are read and looked at.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    bytes: u32,
    free: Arc<Semaphore>,
}

/// A budget for each of those who have connections, whichever they are.
#[derive(Debug)]
pub(super) struct Budgets<K> {
    bytes: u32,
    of: Mutex<BTreeMap<K, Weak<Semaphore>>>,
}

impl<K: Ord + Clone> Budgets<K> {
    /// Everybody may have so many bytes.
    pub(super) fn new(bytes: u32) -> Self {
        let of = Mutex::default();
        Self { bytes, of }
    }

    /// That of `who`.
    pub(super) fn of(&self, who: &K) -> Budget {
        let mut all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.bytes;
        if let Some(free) = all.get(who).and_then(Weak::upgrade) {
            return Budget { bytes, free };
        }
        all.retain(|_, free| free.strong_count() > 0);
        let budget = Budget::new(bytes);
        all.insert(who.clone(), Arc::downgrade(&budget.free));
        budget
    }
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
