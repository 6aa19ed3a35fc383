//! The stored form, held against constants.

use super::*;
use crate::cluster::log::types::Vote;
use openraft::{BasicNode, CommittedLeaderId};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const BLANK: &str = "0103070000";
const MEMBERSHIP: &str = "0103070101010107010700";
const BATCH: &str = "010307ac02026261746368";
const VOTE: &str = "01030701";
const COMMITTED: &str = "010307ac02";

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(3, 7), index)
}

fn batch(bytes: Bytes) -> Result<Batch, DecodeError> {
    Ok(Batch::new(bytes, Arc::new(())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn samples() -> [(Entry, &'static str); 3] {
    let nodes = BTreeMap::from([(7, BasicNode::default())]);
    let membership = Membership::new(vec![BTreeSet::from([7])], nodes);
    let stored = Bytes::from_static(b"batch");
    [
        (
            Entry {
                log_id: log_id(0),
                payload: EntryPayload::Blank,
            },
            BLANK,
        ),
        (
            Entry {
                log_id: log_id(1),
                payload: EntryPayload::Membership(membership),
            },
            MEMBERSHIP,
        ),
        (
            Entry {
                log_id: log_id(300),
                payload: EntryPayload::Normal(batch(stored).unwrap()),
            },
            BATCH,
        ),
    ]
}

#[test]
fn every_kind_of_entry_keeps_its_stored_form() {
    for (entry, golden) in samples() {
        let bytes = encode(&entry).unwrap();
        assert_eq!(hex(&bytes), golden, "{entry:?}");
        let back = decode(entry.log_id.index, &bytes, batch).unwrap();
        assert_eq!(back.log_id, entry.log_id);
        match (back.payload, entry.payload) {
            (EntryPayload::Normal(back), EntryPayload::Normal(batch)) => {
                assert_eq!(back.bytes(), batch.bytes());
            }
            (EntryPayload::Membership(back), EntryPayload::Membership(membership)) => {
                assert_eq!(back, membership);
            }
            (back, payload) => assert_eq!(format!("{back:?}"), format!("{payload:?}")),
        }
    }
}

#[test]
fn a_vote_and_a_log_id_keep_their_stored_form() {
    let vote = Vote::new_committed(3, 7);
    let bytes = encode_small(&vote).unwrap();
    assert_eq!(hex(&bytes), VOTE);
    assert_eq!(decode_small::<Vote>(&bytes).unwrap(), vote);
    let bytes = encode_small(&log_id(300)).unwrap();
    assert_eq!(hex(&bytes), COMMITTED);
    assert_eq!(decode_small::<LogId>(&bytes).unwrap(), log_id(300));
}

#[test]
fn a_batch_is_handed_out_without_a_copy() {
    let (entry, _) = samples().into_iter().nth(2).unwrap();
    let bytes = encode(&entry).unwrap();
    let back = decode(300, &bytes, batch).unwrap();
    let EntryPayload::Normal(batch) = back.payload else {
        panic!("{back:?}")
    };
    assert!(bytes.as_ptr_range().contains(&batch.bytes().as_ptr()));
}

#[test]
fn what_does_not_fit_is_refused() {
    let none = Bytes::new();
    assert_eq!(decode(0, &none, batch).unwrap_err(), RecordError::Empty);
    for (entry, _) in samples() {
        let index = entry.log_id.index;
        let good = encode(&entry).unwrap().to_vec();
        let found = decode(index + 1, &good.clone().into(), batch).unwrap_err();
        assert_eq!(found, RecordError::OtherIndex { found: index });

        let mut newer = good.clone();
        newer[0] = 9;
        let found = decode(index, &newer.into(), batch).unwrap_err();
        assert_eq!(found, RecordError::Version { found: 9 });

        let mut long = good.clone();
        long.push(0);
        let is_batch = matches!(entry.payload, EntryPayload::Normal(_));
        match decode(index, &long.into(), batch) {
            Ok(_) => assert!(is_batch),
            Err(found) => assert_eq!(found, RecordError::TrailingBytes { bytes: 1 }),
        }
        let short = Bytes::from(good[..3].to_vec());
        assert!(matches!(
            decode(index, &short, batch),
            Err(RecordError::Damaged(_))
        ));
    }
}
