//! Doors and the versions of what comes in: each lane is answered in the version that it begins in, and a version that
//! nobody knows is refused by name, on that lane alone.

use super::*;
use mimi_actors::wire::version::{DOOR, Format, LINK};

/// A frame in a version.
fn in_version<T: Versioned>(version: u8, value: &T) -> Vec<u8> {
    frame(&wire::encode_in(version, value, 256).unwrap())
}

/// The version of an answer.
fn version_of(back: &Back) -> Option<u8> {
    match back {
        Back::Frame(bytes) => bytes.first().copied(),
        _ => None,
    }
}

/// What the refusal of an unknown version says.
fn unknown(format: Format, found: u8) -> String {
    let (name, oldest, newest) = (format.name, format.oldest, format.newest);
    format!("{name} version {found} is not readable, this build reads {oldest} to {newest}")
}

pub(super) async fn door(book: &mut Book, amy: &Member) {
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let connection = logged_in(book, &dialer, amy).await;
    let request = |request| door::Open::Request(Box::new(request));
    for version in DOOR.versions() {
        for (name, open) in [
            ("the hub's key", request(Request::HubSender)),
            (
                "a Commit of noise",
                request(Request::Room(room("nowhere", A), noise())),
            ),
        ] {
            let back = say(&connection, &in_version(version, &open)).await;
            let name = format!("versions: {name}, in version {version} of the client door");
            let same = |back: &Back| {
                version_of(back) == Some(version)
                    && matches!(
                        reply(back),
                        Some(Reply::HubSender(_) | Reply::Room(Answer::Refused(_)))
                    )
            };
            book.back(&name, back, same).await;
        }
    }
    for found in [0, DOOR.newest + 1, u8::MAX] {
        let back = say(&connection, &frame(&[found, 0, 2])).await;
        let name = format!("versions: version {found} of the client door");
        let told = |back: &Back| match door_refused(back) {
            Some(DoorRefused::BadFrame(flaw)) => *flaw.detail == *unknown(DOOR, found),
            _ => false,
        };
        book.back(&name, back, told).await;
    }
}

pub(super) async fn link(book: &mut Book, peer: &Connection) {
    for version in LINK.versions() {
        let open = link::Open::Request(Box::new(link::Request::Room {
            room: room("nowhere", A),
            client: client("bob", "phone", B),
            request: noise(),
        }));
        let back = say(peer, &in_version(version, &open)).await;
        let name = format!("versions: a Commit of noise in version {version} of the link");
        let same = |back: &Back| {
            version_of(back) == Some(version)
                && matches!(
                    link_reply(back),
                    Some(link::Reply::Room(Answer::Refused(_)))
                )
        };
        book.back(&name, back, same).await;
    }
    for found in [0, LINK.newest + 1, u8::MAX] {
        let back = say(peer, &frame(&[found, 3])).await;
        let name = format!("versions: version {found} of the link");
        let told = |back: &Back| match link_refused(back) {
            Some(LinkRefused::BadFrame(flaw)) => *flaw.detail == *unknown(LINK, found),
            _ => false,
        };
        book.back(&name, back, told).await;
    }
}
