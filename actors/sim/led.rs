//! Somebody's request on its way through a node of the world, and for whom it ends.

use super::plan::NodeRef;
use crate::{
    way::{Came, Next, Slot, Way as _, client::OfClient, peer::OfPeer},
    wire::{
        door::{self, DoorRefused},
        link,
    },
};

/// Somebody's request on its way.
#[derive(Debug)]
pub(super) enum Led {
    Client {
        client: usize,
        request: u64,
        way: OfClient,
    },
    Peer {
        back: PeerBack,
        way: OfPeer,
    },
}

/// Who of another provider waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerBack {
    pub(super) node: NodeRef,
    pub(super) life: u64,
    pub(super) task: u64,
    pub(super) slot: Slot,
}

/// What a request on its way ends with, and for whom.
pub(super) enum End {
    Client(usize, u64, Result<door::Reply, DoorRefused>),
    Peer(PeerBack, link::Reply),
}

impl Led {
    pub(super) fn next(&mut self) -> Next<End> {
        match self {
            Self::Client {
                client,
                request,
                way,
            } => match way.next() {
                Next::Ask(slot, ask) => Next::Ask(slot, ask),
                Next::Wait => Next::Wait,
                Next::End(end) => Next::End(End::Client(*client, *request, end)),
            },
            Self::Peer { back, way } => match way.next() {
                Next::Ask(slot, ask) => Next::Ask(slot, ask),
                Next::Wait => Next::Wait,
                Next::End(reply) => Next::End(End::Peer(*back, reply)),
            },
        }
    }

    pub(super) fn came(&mut self, slot: Slot, came: Came) {
        match self {
            Self::Client { way, .. } => way.came(slot, came),
            Self::Peer { way, .. } => way.came(slot, came),
        }
    }
}
