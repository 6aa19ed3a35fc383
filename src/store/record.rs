//! One record as raft-engine wants it: an index and opaque bytes.
//!
//! raft-engine speaks protobuf 2 through a trait. This implementation writes and reads raw bytes, so
//! no protobuf parser ever runs over what is on the disk (RUSTSEC-2024-0437 is out of reach).

use bytes::Bytes;
use protobuf::{
    Clear, CodedInputStream, CodedOutputStream, Message, ProtobufResult, UnknownFields,
    reflect::MessageDescriptor,
};
use raft_engine::MessageExt;
use std::{any::Any, io::BufRead, sync::OnceLock};

/// Bytes of the index in front of every record.
const INDEX_BYTES: usize = size_of::<u64>();

/// An entry of one shard's log.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) index: u64,
    pub(crate) data: Bytes,
    unknown: UnknownFields,
}

impl Record {
    pub(crate) fn new(index: u64, data: Bytes) -> Self {
        Self {
            index,
            data,
            unknown: UnknownFields::default(),
        }
    }

    /// Bytes this record takes in a block of the log.
    pub(crate) fn len(&self) -> usize {
        INDEX_BYTES + self.data.len()
    }
}

impl Clear for Record {
    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Message for Record {
    fn descriptor(&self) -> &'static MessageDescriptor {
        unreachable!("a raw record has no descriptor")
    }

    fn is_initialized(&self) -> bool {
        true
    }

    fn merge_from(&mut self, input: &mut CodedInputStream<'_>) -> ProtobufResult<()> {
        self.index = input.read_raw_little_endian64()?;
        let mut data = Vec::new();
        while !input.eof()? {
            let available = input.fill_buf()?;
            let read = available.len();
            data.extend_from_slice(available);
            input.consume(read);
        }
        self.data = data.into();
        Ok(())
    }

    fn write_to_with_cached_sizes(&self, output: &mut CodedOutputStream<'_>) -> ProtobufResult<()> {
        output.write_raw_bytes(&self.index.to_le_bytes())?;
        output.write_raw_bytes(&self.data)
    }

    fn compute_size(&self) -> u32 {
        // Protobuf counts in 32 bits. The log refuses larger entries before they come here.
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn get_cached_size(&self) -> u32 {
        self.compute_size()
    }

    fn get_unknown_fields(&self) -> &UnknownFields {
        &self.unknown
    }

    fn mut_unknown_fields(&mut self) -> &mut UnknownFields {
        &mut self.unknown
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn new() -> Self {
        Self::default()
    }

    fn default_instance() -> &'static Self {
        static DEFAULT: OnceLock<Record> = OnceLock::new();
        DEFAULT.get_or_init(Self::default)
    }
}

/// Tells raft-engine which type an entry has.
#[derive(Clone)]
pub(crate) struct Records;

impl MessageExt for Records {
    type Entry = Record;

    fn index(record: &Record) -> u64 {
        record.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_index_and_its_bytes() {
        for data in [vec![], vec![7_u8], vec![42; 100_000]] {
            let record = Record::new(9, data.clone().into());
            let stored = record.write_to_bytes().unwrap();
            assert_eq!(stored.len(), record.len());
            assert_eq!(stored[..8], 9_u64.to_le_bytes());
            assert_eq!(stored[8..], data);
            assert_eq!(Record::parse_from_bytes(&stored).unwrap(), record);
        }
    }
}
