//! The connection that a peer dials: its requests, its fan-out, its submissions.
//!
//! Promises: nothing a frame says is believed about who sent it; a bad frame ends its lane, a peer that breaks the
//! protocol loses its connection, and neither disturbs anybody else.

use super::{
    Peers, in_vain, receive,
    share::Share,
    walk::{house, walk},
};
use crate::{
    admit::{self, Admission},
    cluster::shard::shards::Shards,
    perform::workers::Cause,
    quic::{LaneReceiver, LaneSender, Link, code},
};
use mimi_actors::{
    caller::Origin,
    ids::ClientUri,
    limits::{REQUEST_FRAME_BYTES_MAX, SHARED_LANES_MAX},
    way::peer::OfPeer,
    wire::{
        self, Versioned,
        link::{Hello, LinkRefused, Open, Reply, Request},
        version::LINK,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{Instrument, debug, info, info_span, warn};

/// How long a frame that has begun may take.
pub(super) const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// How long a lane may take to say what it is for.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// What is wrong with a lane, and what its end costs.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneEnd {
    /// The lane is over; the connection goes on.
    #[error("{0:#}")]
    Lane(#[from] anyhow::Error),
    /// The connection is over.
    #[error("{0}")]
    Connection(String),
}

/// How many more lanes that shards share may be open on a connection, and what the peer may hold on all of its own.
struct SharedLanes {
    fanout: Semaphore,
    submissions: Semaphore,
    share: Arc<Share>,
}

impl SharedLanes {
    fn new(share: Arc<Share>) -> Self {
        Self {
            fanout: Semaphore::new(SHARED_LANES_MAX),
            submissions: Semaphore::new(SHARED_LANES_MAX),
            share,
        }
    }
}

/// A place for a lane, until it is dropped.
fn place(lanes: &Semaphore) -> Result<SemaphorePermit<'_>, LaneEnd> {
    let crowded = || LaneEnd::Connection(format!("more than {SHARED_LANES_MAX} shared lanes"));
    lanes.try_acquire().map_err(|_| crowded())
}

/// Serves a peer's connection until it ends.
pub(crate) async fn serve(
    link: Arc<Link>,
    shards: Shards,
    peers: Peers,
    ours: Hello,
    admission: Arc<Admission>,
) {
    let span = info_span!("link", peer = %link.peer());
    async {
        info!(address = %link.remote_address(), "peer connected");
        let Some(share) = peers.share(link.peer()) else {
            link.close(code::PROTOCOL, "the provider is not listed");
            return;
        };
        let shared = Arc::new(SharedLanes::new(Arc::clone(share)));
        while let Ok((to, from)) = link.accept_lane().await {
            let (over, shards, peers) = (Arc::clone(&link), shards.clone(), peers.clone());
            let (admission, ours) = (Arc::clone(&admission), ours.clone());
            let shared = Arc::clone(&shared);
            let lane = async move {
                let limits = (&admission, &*shared);
                match serve_lane(&over, to, from, &shards, &peers, &ours, limits).await {
                    Ok(()) => {}
                    Err(LaneEnd::Lane(error)) => debug!(%error, "a lane of the peer ended"),
                    Err(LaneEnd::Connection(why)) => {
                        warn!(%why, "the peer broke the protocol; its connection is closed");
                        over.close(code::PROTOCOL, &why);
                    }
                }
            };
            tokio::spawn(lane.in_current_span());
        }
        info!("peer disconnected");
    }
    .instrument(span)
    .await;
}

async fn serve_lane(
    link: &Link,
    mut to: LaneSender,
    mut from: LaneReceiver,
    shards: &Shards,
    peers: &Peers,
    ours: &Hello,
    (admission, shared): (&Arc<Admission>, &SharedLanes),
) -> Result<(), LaneEnd> {
    let opening = from.next(REQUEST_FRAME_BYTES_MAX, Some(FRAME_DEADLINE));
    let frame = match tokio::time::timeout(OPEN_DEADLINE, opening).await {
        Ok(Ok(Some(frame))) => frame,
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(error)) => {
            to.reset(code::BAD_FRAME);
            from.stop(code::BAD_FRAME);
            return Err(anyhow::Error::from(error).into());
        }
        Err(_) => {
            to.reset(code::DEADLINE);
            from.stop(code::DEADLINE);
            return Ok(());
        }
    };
    // A lane is answered in the version in which it begins, if that is one; anything else in the oldest.
    to.speak(LINK.spoken(&frame));
    match wire::decode::<Open>(&frame) {
        Ok(Open::Control(theirs)) => {
            if ours.common(&theirs).is_none() {
                link.close(code::VERSION, "no common version");
                return Ok(());
            }
            answer(&mut to, ours).await
        }
        Ok(Open::Request(request)) => {
            let asked = in_vain::items(&request);
            let paid = match admission.peers_in_vain.ask(link.peer(), asked).await {
                Ok(paid) => paid,
                Err(later) => {
                    let refused = Reply::Refused(LinkRefused::TryLater(later));
                    return answer(&mut to, &refused).await;
                }
            };
            let mut turn = match admission.peer(link.peer(), joiner(&request)) {
                Ok(turn) => turn,
                Err(later) => {
                    admission.peers_in_vain.came_of(paid, 0);
                    let refused = Reply::Refused(LinkRefused::TryLater(later));
                    return answer(&mut to, &refused).await;
                }
            };
            let reply = reply(link, shards, peers, *request).await;
            turn.answered();
            admission
                .peers_in_vain
                .came_of(paid, in_vain::in_vain(&reply));
            let frame = to.frame(&reply).map_err(anyhow::Error::from)?;
            let Some(_room) = shared.share.answer(frame.len()) else {
                to.reset(code::CROWDED);
                return Err(anyhow::anyhow!("too many bytes of answers wait to be taken").into());
            };
            to.send(frame).await.map_err(anyhow::Error::from)?;
            Ok(to.finish().map_err(anyhow::Error::from)?)
        }
        Ok(Open::Fanout) => {
            let _place = place(&shared.fanout)?;
            receive::fanout(link, shards, &shared.share, None, (to, from)).await
        }
        Ok(Open::OneShard { shard }) => {
            receive::fanout(link, shards, &shared.share, Some(shard), (to, from)).await
        }
        Ok(Open::Submit) => {
            let _place = place(&shared.submissions)?;
            receive::submissions(link, shards, &shared.share, None, (to, from)).await
        }
        // Which shard it is does not matter: it is alone.
        Ok(Open::OneShardSubmits) => {
            receive::submissions(link, shards, &shared.share, Some(0), (to, from)).await
        }
        Err(error) => {
            let reply = Reply::Refused(LinkRefused::BadFrame(error.flaw()));
            answer(&mut to, &reply).await
        }
    }
}

/// Who may stand in the queue of a room for a request.
fn joiner(request: &Request) -> Option<&ClientUri> {
    match request {
        Request::Room {
            client, request, ..
        } if admit::waits(request) => Some(client),
        Request::Room { .. }
        | Request::Claim(_)
        | Request::Relayed(_)
        | Request::Vouch { .. }
        | Request::Resolve(_) => None,
    }
}

async fn answer<T: Versioned>(to: &mut LaneSender, said: &T) -> Result<(), LaneEnd> {
    to.write(said).await.map_err(anyhow::Error::from)?;
    Ok(to.finish().map_err(anyhow::Error::from)?)
}

async fn reply(link: &Link, shards: &Shards, peers: &Peers, request: Request) -> Reply {
    let origin = Origin {
        provider: link.peer().clone(),
        address: Some(link.remote_address().ip()),
        connection: Some(link.number()),
    };
    let cause = Cause::Provider(link.peer().clone());
    let way = OfPeer::new(&house(shards), origin, request);
    walk(shards, peers, &cause, way).await
}
