//! Frames whole, large, small, torn and slow.

use super::*;
use bytes::Bytes;
use mimi_actors::limits::{BATCH_FRAME_BYTES_MAX, LINK_READING_BYTES_MAX};
use std::time::Duration;

const MAX: usize = 4 << 20;
/// How long something may take that happens within a moment.
const SOON: Duration = Duration::from_secs(20);

/// A lane from a client to a provider; the doors keep it open.
async fn lane() -> (LaneSender, LaneReceiver, (Door, Door)) {
    let (client, server) = doors::door(&Ca::new()).await;
    let (mut to, _) = client.open_lane().await.unwrap();
    to.send("hello".into()).await.unwrap();
    let (_, mut from) = server.accept_lane().await.unwrap();
    assert_eq!(from.next(MAX, None).await.unwrap().unwrap(), "hello");
    (to, from, (client, server))
}

/// The receiving end of a lane on which these bytes came, and no more do if it is `ended`.
async fn raw(bytes: &[u8], ended: bool) -> (LaneReceiver, LaneSender, (Door, Door)) {
    let (mut to, from, doors) = lane().await;
    to.raw().write_all(bytes).await.unwrap();
    if ended {
        to.finish().unwrap();
    }
    (from, to, doors)
}

#[tokio::test]
async fn frames_come_as_they_were_sent() {
    let (mut to, mut from, _doors) = lane().await;
    let sizes = [1, 3, 4, 5, 1_200, 1_452, 65_536, 65_537, 1 << 20, MAX, 2];
    let frame = |size: usize| Bytes::from(vec![u8::try_from(size % 251).unwrap(); size]);
    let sending = tokio::spawn(async move {
        for size in sizes {
            to.send(frame(size)).await.unwrap();
            // The same in parts, one of them empty.
            let (whole, middle) = (frame(size), size / 2);
            let parts = [whole.slice(..middle), Bytes::new(), whole.slice(middle..)];
            to.send_vectored(&parts).await.unwrap();
        }
        for _ in 0..10_000 {
            to.send(frame(100)).await.unwrap();
        }
        to.finish().unwrap();
        assert_eq!(to.finish(), Err(LaneError::Closed));
        assert_eq!(to.send(frame(1)).await, Err(LaneError::Closed));
    });
    for size in sizes {
        for _ in 0..2 {
            assert!(from.next(MAX, None).await.unwrap().unwrap() == frame(size));
        }
    }
    for _ in 0..10_000 {
        assert!(from.next(MAX, None).await.unwrap().unwrap() == frame(100));
    }
    assert_eq!(from.next(MAX, None).await, Ok(None));
    sending.await.unwrap();
}

#[tokio::test]
async fn an_empty_frame_is_neither_sent_nor_taken() {
    let (mut to, _from, _doors) = lane().await;
    assert_eq!(to.send(Bytes::new()).await, Err(LaneError::Empty));
    assert_eq!(to.send_vectored(&[]).await, Err(LaneError::Empty));
    assert_eq!(
        to.send_vectored(&[Bytes::new()]).await,
        Err(LaneError::Empty)
    );
    let (mut from, _to, _doors) = raw(&[0; 4], false).await;
    assert_eq!(from.next(MAX, None).await, Err(LaneError::Empty));
}

#[tokio::test]
async fn a_frame_too_large_is_refused_from_its_header() {
    let (mut from, _to, _doors) = raw(&[0, 0, 1, 1], false).await;
    let refused = LaneError::FrameTooLarge {
        bytes: 257,
        max: 256,
    };
    assert_eq!(from.next(256, None).await, Err(refused));
    let (mut from, _to, _doors) = raw(&[0xff; 4], false).await;
    let bytes = usize::try_from(u32::MAX).unwrap();
    let refused = LaneError::FrameTooLarge { bytes, max: MAX };
    assert_eq!(from.next(MAX, None).await, Err(refused));
    let (mut from, _to, _doors) = raw(b"\0\0\0\x02ok\0\0\0\x03bad", true).await;
    assert_eq!(from.next(2, None).await.unwrap().unwrap(), "ok");
    let refused = LaneError::FrameTooLarge { bytes: 3, max: 2 };
    assert_eq!(from.next(2, None).await, Err(refused));
}

#[tokio::test]
async fn memory_follows_what_has_arrived() {
    let mut announced = u32::try_from(MAX).unwrap().to_be_bytes().to_vec();
    announced.extend_from_slice(b"a few bytes");
    let (mut from, _to, _doors) = raw(&announced, false).await;
    let soon = Duration::from_millis(200);
    assert_eq!(from.next(MAX, Some(soon)).await, Err(LaneError::Deadline));
    assert!(from.memory_bytes() < 100_000, "{}", from.memory_bytes());
}

#[tokio::test]
async fn a_lane_that_ends_inside_a_frame_is_truncated() {
    for torn in [&b"\0"[..], b"\0\0\0", b"\0\0\0\x05", b"\0\0\0\x05four"] {
        let (mut from, _to, _doors) = raw(torn, true).await;
        assert_eq!(from.next(MAX, None).await, Err(LaneError::Truncated));
    }
    let (mut from, _to, _doors) = raw(b"", true).await;
    assert_eq!(from.next(MAX, None).await, Ok(None));
}

#[tokio::test]
async fn a_frame_that_has_begun_ends_in_time() {
    let soon = Duration::from_millis(200);
    for begun in [&b"\0"[..], b"\0\0\0\x05", b"\0\0\0\x05fo"] {
        let (mut from, _to, _doors) = raw(begun, false).await;
        assert_eq!(from.next(MAX, Some(soon)).await, Err(LaneError::Deadline));
    }
    // A byte now and then does not help.
    let (mut from, mut to, _doors) = raw(b"\0\0\0\x63", false).await;
    let dripping = tokio::spawn(async move {
        while to.raw().write_all(b"x").await.is_ok() {
            tokio::time::sleep(soon / 4).await;
        }
    });
    assert_eq!(from.next(MAX, Some(soon)).await, Err(LaneError::Deadline));
    from.stop(3);
    dripping.await.unwrap();
}

#[tokio::test]
async fn the_wait_for_a_frame_is_not_limited_and_loses_nothing() {
    let (mut to, mut from, _doors) = lane().await;
    let soon = Duration::from_millis(50);
    let waiting = from.next(MAX, Some(soon));
    assert!(tokio::time::timeout(4 * soon, waiting).await.is_err());
    to.raw().write_all(b"\0\0\0\x05ha").await.unwrap();
    assert!(
        tokio::time::timeout(soon, from.next(MAX, None))
            .await
            .is_err()
    );
    to.raw().write_all(b"lf\n").await.unwrap();
    assert_eq!(from.next(MAX, None).await.unwrap().unwrap(), "half\n");
}

#[tokio::test]
async fn a_lane_given_up_says_so_with_its_code() {
    let (mut to, mut from, _doors) = lane().await;
    from.stop(17);
    let given_up = loop {
        if let Err(error) = to.send(vec![0; 1_000].into()).await {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(given_up, LaneError::GivenUp { code: 17 });
    let (mut to, mut from, _doors) = lane().await;
    to.reset(18);
    let given_up = Err(LaneError::GivenUp { code: 18 });
    assert_eq!(from.next(MAX, None).await, given_up);
}

#[tokio::test]
async fn a_send_dropped_halfway_closes_the_lane() {
    let (mut to, mut from, _doors) = lane().await;
    to.set_priority(1);
    // More than the window: it cannot be sent without a reader.
    let large = Bytes::from(vec![1; 32 << 20]);
    let short = Duration::from_millis(200);
    assert!(tokio::time::timeout(short, to.send(large)).await.is_err());
    assert_eq!(to.send("next".into()).await, Err(LaneError::Closed));
    assert_eq!(to.finish(), Err(LaneError::Closed));
    drop(to);
    assert_eq!(from.next(64 << 20, None).await, Err(LaneError::Truncated));
}

#[tokio::test]
async fn who_does_not_read_loses_the_lane_and_nothing_else() {
    let (to, mut from, (client, server)) = lane().await;
    let mut to = to.with_patience(lane::Patience {
        stall: Duration::from_millis(200),
        whole: Duration::from_secs(60),
    });
    // More than the window: it cannot be sent without a reader.
    let large = Bytes::from(vec![1; 32 << 20]);
    let sent = tokio::time::timeout(SOON, to.send(large)).await;
    assert_eq!(sent, Ok(Err(LaneError::NotTaken)));
    assert_eq!(to.send("next".into()).await, Err(LaneError::Closed));
    let given_up = LaneError::GivenUp {
        code: code::DEADLINE,
    };
    assert_eq!(from.next(64 << 20, None).await, Err(given_up));
    let (mut to, _) = client.open_lane().await.unwrap();
    to.send("another".into()).await.unwrap();
    let (_, mut from) = server.accept_lane().await.unwrap();
    assert_eq!(from.next(MAX, None).await.unwrap().unwrap(), "another");
}

#[tokio::test]
async fn who_reads_a_little_now_and_then_has_no_more_time_for_it() {
    let (to, mut from, _doors) = lane().await;
    let soon = Duration::from_millis(400);
    let mut to = to.with_patience(lane::Patience {
        stall: Duration::from_secs(60),
        whole: soon,
    });
    let large = Bytes::from(vec![1; 64 << 20]);
    let sending = tokio::spawn(async move { to.send(large).await });
    // Some of it is read, the rest is not.
    drop(tokio::time::timeout(soon / 4, from.next(65 << 20, None)).await);
    let sent = tokio::time::timeout(SOON, sending).await;
    assert_eq!(sent.unwrap().unwrap(), Err(LaneError::NotTaken));
}

#[tokio::test]
async fn large_frames_of_one_connection_wait_for_each_other_and_small_ones_for_none() {
    let (client, server) = doors::door(&Ca::new()).await;
    // A little less than the window of a lane, so that it can be sent without a reader.
    let large = MAX - 64;
    let announced = u32::try_from(large).unwrap().to_be_bytes();
    let mut lanes = Vec::new();
    let mut begin = async |bytes: &[u8]| {
        let (mut to, _) = client.open_lane().await.unwrap();
        to.raw().write_all(bytes).await.unwrap();
        let (_, from) = server.accept_lane().await.unwrap();
        lanes.push(to);
        from
    };
    let soon = Duration::from_millis(200);
    // Four that have begun and do not go on have all the memory there is.
    let mut begun = Vec::new();
    for _ in 0..4 {
        let mut from = begin(&announced).await;
        let waiting = from.next(MAX, Some(Duration::from_secs(60)));
        assert!(tokio::time::timeout(soon, waiting).await.is_err());
        begun.push(from);
    }
    let mut small = begin(b"\0\0\0\x05small").await;
    assert_eq!(small.next(MAX, None).await.unwrap().unwrap(), "small");
    let whole = [&announced[..], &vec![7; large]].concat();
    let mut fifth = begin(&whole).await;
    assert_eq!(fifth.next(MAX, Some(soon)).await, Err(LaneError::Deadline));
    drop((begun.pop(), fifth));
    let mut sixth = begin(&whole).await;
    let read = sixth.next(MAX, Some(Duration::from_secs(30))).await;
    assert_eq!(read.unwrap().unwrap().len(), large);
}

#[tokio::test]
async fn large_frames_of_one_peer_wait_for_each_other_on_whichever_connection() {
    const LARGE: usize = BATCH_FRAME_BYTES_MAX;
    let ca = Ca::new();
    let a = link_endpoint(&ca.identity("a.example"), &[("b.example", ca.trust())]);
    let c = link_endpoint(&ca.identity("c.example"), &[("b.example", ca.trust())]);
    let peers = [("a.example", ca.trust()), ("c.example", ca.trust())];
    let b = link_endpoint(&ca.identity("b.example"), &peers);
    let mut links = Vec::new();
    for from in [&a, &a, &c] {
        let (dialed, taken) = dial(from, &b, "b.example").await;
        links.push((dialed.unwrap(), taken.unwrap()));
    }
    let mut lanes = Vec::new();
    let mut begin = async |link: usize, announced: usize, sent: usize| {
        let (dialed, taken) = &links[link];
        let (mut to, _) = dialed.open_lane().await.unwrap();
        let header = u32::try_from(announced).unwrap().to_be_bytes();
        let bytes = [&header[..], &vec![7; sent]].concat();
        to.raw().write_all(&bytes).await.unwrap();
        lanes.push(to);
        taken.accept_lane().await.unwrap().1
    };
    let soon = Duration::from_millis(200);
    // Frames that have begun on two connections of one peer, and do not go on, have all the memory there is.
    let mut begun = Vec::new();
    for number in 0..LINK_READING_BYTES_MAX as usize / LARGE {
        let mut from = begin(number % 2, LARGE, 0).await;
        let waiting = from.next(LARGE, Some(Duration::from_secs(60)));
        assert!(tokio::time::timeout(soon, waiting).await.is_err());
        begun.push(from);
    }
    let whole = 1 << 20;
    let mut late = begin(1, whole, whole).await;
    assert_eq!(late.next(LARGE, Some(soon)).await, Err(LaneError::Deadline));
    let mut other = begin(2, whole, whole).await;
    let read = other.next(LARGE, Some(Duration::from_secs(30))).await;
    assert_eq!(read.unwrap().unwrap().len(), whole, "of another peer");
    drop((begun.swap_remove(0), late));
    let mut next = begin(1, whole, whole).await;
    let read = next.next(LARGE, Some(Duration::from_secs(30))).await;
    assert_eq!(read.unwrap().unwrap().len(), whole);
}
