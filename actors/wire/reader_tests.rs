//! That a value is read from its own encoding and from no other.

use crate::wire::{
    Payload,
    reading::{NotRead, take},
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One of everything that frames are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    byte: u8,
    small: u16,
    number: u32,
    long: u64,
    longest: u128,
    below: (i16, i32, i64, i128, i8),
    hash: [u8; 4],
    text: String,
    payload: Payload,
    list: Vec<u16>,
    map: BTreeMap<u32, bool>,
    maybe: Option<u64>,
    kind: Kind,
    inner: Option<Box<Self>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Nothing,
    One(u32),
    Two(u8, u64),
    Named { place: u16 },
}

/// A part of an encoding: a number, and of how many bits, or bytes that are themselves.
#[derive(Debug)]
enum Part {
    Number(u128, u32),
    Bytes(Vec<u8>),
}

use Part::{Bytes, Number};

/// What postcard's specification makes of a value, in parts.
fn parts(all: &All, out: &mut Vec<Part>) {
    let len = |len: usize| Number(len as u128, 64);
    // 0, -1, 1, -2 and so on.
    let folded = |number: i128| ((number << 1) ^ (number >> 127)).cast_unsigned();
    out.extend([
        Bytes(vec![all.byte]),
        Number(all.small.into(), 16),
        Number(all.number.into(), 32),
        Number(all.long.into(), 64),
        Number(all.longest, 128),
        Number(folded(all.below.0.into()), 16),
        Number(folded(all.below.1.into()), 32),
        Number(folded(all.below.2.into()), 64),
        Number(folded(all.below.3), 128),
        Bytes(vec![all.below.4.cast_unsigned()]),
        Bytes(all.hash.to_vec()),
        len(all.text.len()),
        Bytes(all.text.clone().into()),
        len(all.payload.len()),
        Bytes(all.payload.to_vec()),
        len(all.list.len()),
    ]);
    out.extend(all.list.iter().map(|number| Number((*number).into(), 16)));
    out.push(len(all.map.len()));
    for (key, yes) in &all.map {
        out.extend([Number((*key).into(), 32), Bytes(vec![(*yes).into()])]);
    }
    out.push(Bytes(vec![all.maybe.is_some().into()]));
    out.extend(all.maybe.map(|number| Number(number.into(), 64)));
    match all.kind {
        Kind::Nothing => out.push(Number(0, 32)),
        Kind::One(number) => out.extend([Number(1, 32), Number(number.into(), 32)]),
        Kind::Two(byte, number) => {
            out.extend([Number(2, 32), Bytes(vec![byte]), Number(number.into(), 64)])
        }
        Kind::Named { place } => out.extend([Number(3, 32), Number(place.into(), 16)]),
    }
    out.push(Bytes(vec![all.inner.is_some().into()]));
    if let Some(inner) = &all.inner {
        parts(inner, out);
    }
}

/// A part in bytes, a number with so many bytes more than it needs.
fn written(part: &Part, more: usize) -> Vec<u8> {
    match part {
        Bytes(bytes) => bytes.clone(),
        Number(number, _) => {
            let mut left = *number;
            let mut groups = vec![(left & 0x7f) as u8];
            left >>= 7;
            while left > 0 {
                groups.push((left & 0x7f) as u8);
                left >>= 7;
            }
            groups.extend(std::iter::repeat_n(0, more));
            let last = groups.len() - 1;
            groups[..last].iter_mut().for_each(|group| *group |= 0x80);
            groups
        }
    }
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Nothing),
        any::<u32>().prop_map(Kind::One),
        any::<(u8, u64)>().prop_map(|(byte, number)| Kind::Two(byte, number)),
        any::<u16>().prop_map(|place| Kind::Named { place }),
    ]
}

/// Numbers of all lengths: as many small ones as large ones.
macro_rules! of_all_lengths {
    ($type:ty) => {
        (any::<$type>(), 0..<$type>::BITS).prop_map(|(number, bits)| number >> bits)
    };
}

fn all() -> impl Strategy<Value = All> {
    let numbers = (
        any::<u8>(),
        of_all_lengths!(u16),
        of_all_lengths!(u32),
        of_all_lengths!(u64),
        of_all_lengths!(u128),
    );
    let below = any::<(i16, i32, i64, i128, i8)>();
    let bytes = proptest::collection::vec(prop_oneof![Just(0x80), Just(0), any::<u8>()], 0..200);
    let lists = (
        proptest::collection::vec(any::<u16>(), 0..4),
        proptest::collection::btree_map(any::<u32>(), any::<bool>(), 0..3),
    );
    let rest = (any::<Option<u64>>(), kind(), ".{0,9}", any::<[u8; 4]>());
    let one = (numbers, below, bytes, lists, rest).prop_map(
        |((byte, small, number, long, longest), below, bytes, (list, map), rest)| {
            let (maybe, kind, text, hash) = rest;
            All {
                byte,
                small,
                number,
                long,
                longest,
                below,
                hash,
                text,
                payload: bytes.into(),
                list,
                map,
                maybe,
                kind,
                inner: None,
            }
        },
    );
    let one = one.boxed();
    (one.clone(), proptest::option::of(one)).prop_map(|(outer, inner)| All {
        inner: inner.map(Box::new),
        ..outer
    })
}

proptest! {
    #[test]
    fn a_value_is_read_from_its_own_encoding_and_from_no_longer_one(all in all(), more in 1..3_usize) {
        let mut of = Vec::new();
        parts(&all, &mut of);
        let own: Vec<u8> = of.iter().flat_map(|part| written(part, 0)).collect();
        prop_assert_eq!(&own, &postcard::to_stdvec(&all).unwrap());
        prop_assert_eq!(take::<All>(&own), Ok((all, &[][..])));
        for (place, lengthened) in of.iter().enumerate() {
            let Number(_, bits) = lengthened else {
                continue;
            };
            let each = of.iter().enumerate();
            let bytes = each.flat_map(|(at, part)| written(part, if at == place { more } else { 0 }));
            let bytes: Vec<u8> = bytes.collect();
            let before: usize = of[..place].iter().map(|part| written(part, 0).len()).sum();
            let NotRead { offset, what, .. } = take::<All>(&bytes).unwrap_err();
            // A number that has too many bytes for its type is refused where the last that it may have ends.
            let len = written(lengthened, more).len();
            let most = bits.div_ceil(7) as usize;
            prop_assert_eq!(offset, before + len.min(most));
            let expected = if len > most { "a number is too large" } else { "a number is longer than it has to be" };
            prop_assert_eq!(what, expected);
        }
    }

    #[test]
    fn what_is_read_is_written_as_it_was(bytes in proptest::collection::vec(prop_oneof![0..4_u8, Just(0x80), any::<u8>()], 0..80)) {
        if let Ok((all, rest)) = take::<All>(&bytes) {
            let mut again = postcard::to_stdvec(&all).unwrap();
            again.extend(rest);
            prop_assert_eq!(again, bytes);
        }
    }
}

/// Where a value is refused, and why.
fn refused<T: for<'de> Deserialize<'de> + std::fmt::Debug>(bytes: &[u8]) -> (usize, &'static str) {
    let NotRead { offset, what, .. } = take::<T>(bytes).unwrap_err();
    (offset, what)
}

#[test]
fn a_number_with_bytes_that_say_nothing_is_refused_wherever_it_stands() {
    let longer = "a number is longer than it has to be";
    assert_eq!(refused::<u16>(&[0x80, 0]), (2, longer));
    assert_eq!(refused::<u32>(&[0x81, 0x80, 0]), (3, longer));
    assert_eq!(refused::<u64>(&[0xff, 0x80, 0x80, 0]), (4, longer));
    assert_eq!(refused::<u128>(&[0x80, 0]), (2, longer));
    assert_eq!(refused::<i64>(&[0x81, 0]), (2, longer));
    assert_eq!(refused::<Vec<u8>>(&[0x81, 0, 7]), (2, longer));
    assert_eq!(refused::<String>(&[0x81, 0, b'a']), (2, longer));
    assert_eq!(refused::<Payload>(&[0x80, 0]), (2, longer));
    assert_eq!(refused::<Option<u16>>(&[1, 0x80, 0]), (3, longer));
    let not_read = take::<Kind>(&[0x81, 0, 7]).unwrap_err();
    assert_eq!((not_read.offset, not_read.what), (2, longer));
    let not_read = take::<Kind>(&[3, 0x85, 0]).unwrap_err();
    let found = (&*not_read.field, not_read.offset, not_read.what);
    assert_eq!(found, ("Kind.Named.place", 3, longer));
}

#[test]
fn bytes_that_look_like_such_a_number_are_taken() {
    assert_eq!(take::<[u8; 2]>(&[0x80, 0]), Ok(([0x80, 0], &[][..])));
    assert_eq!(take::<Vec<u8>>(&[2, 0x80, 0]), Ok((vec![0x80, 0], &[][..])));
    let payload = take::<Payload>(&[2, 0x80, 0]).unwrap().0;
    assert_eq!(payload, Payload::from(vec![0x80, 0]));
    assert_eq!(take::<(i8, u8)>(&[0x80, 0]), Ok(((-128, 0), &[][..])));
}

#[test]
fn a_number_that_its_type_does_not_hold_is_refused() {
    let large = "a number is too large";
    assert_eq!(take::<u16>(&[0xff, 0xff, 3]), Ok((u16::MAX, &[][..])));
    assert_eq!(refused::<u16>(&[0xff, 0xff, 4]), (3, large));
    assert_eq!(refused::<u16>(&[0x80, 0x80, 0x80, 1]), (3, large));
    let mut most = vec![0xff; 9];
    most.push(1);
    assert_eq!(take::<u64>(&most), Ok((u64::MAX, &[][..])));
    most[9] = 2;
    assert_eq!(refused::<u64>(&most), (10, large));
}
