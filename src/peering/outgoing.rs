//! The connection that we dial: it is kept up, and everything we have for the peer goes over it.

use super::{
    PeerUnavailable,
    connection::Connection,
    credits::Credits,
    fanout::{self, Later},
    lane::{Backoff, GOOD, Speaks},
    led::Led,
    share::Share,
    submit,
    trouble::{Trouble, Troubles},
};
use crate::{
    certificates::now_s,
    cluster::{
        raft::lead::{led_here, lost},
        shard::shards::Shards,
    },
    quic::{ConnectError, Ended, Link, LinkEndpoint, code},
};
use anyhow::Context;
use futures::future::select_ok;
use mimi_actors::{
    ids::ProviderId,
    limits::{GREETING_FRAME_BYTES_MAX, REQUEST_FRAME_BYTES_MAX},
    wire::{
        self,
        answer::{Answer, Refused},
        link::{Hello, Open, Reply, Request},
        refusal::{TryLater, Why},
        version::LINK,
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
use tracing::{Instrument, info, info_span, warn};

/// How long a node of the peer has to answer before the next is dialled too.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// How long a peer may take to greet.
const GREETING_DEADLINE: Duration = Duration::from_secs(5);

/// Another provider, and the connection to it while there is one.
pub(crate) struct Peer {
    provider: ProviderId,
    addresses: Vec<String>,
    deadline: Duration,
    link: watch::Sender<Option<Arc<Connection>>>,
    /// How the shards stand that fan out to it.
    credits: Arc<Credits>,
    /// Why there is no connection.
    troubles: Troubles,
    /// What it may hold of this node's memory, on the connections that it dials.
    share: Arc<Share>,
}

impl Peer {
    /// A peer of a provider with so many shards.
    pub(crate) fn new(
        provider: ProviderId,
        addresses: Vec<String>,
        deadline: Duration,
        shards: u16,
    ) -> Self {
        Self {
            provider,
            addresses,
            deadline,
            link: watch::Sender::new(None),
            credits: Arc::new(Credits::new(shards)),
            troubles: Troubles::default(),
            share: Arc::default(),
        }
    }

    /// What it may hold of this node's memory, on the connections that it dials.
    pub(super) fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// How the shards stand that fan out to it.
    pub(crate) fn credits(&self) -> &Credits {
        &self.credits
    }

    /// Why each address cannot be reached, while there is no connection.
    pub(crate) fn troubles(&self) -> BTreeMap<String, Trouble> {
        self.troubles.now()
    }

    /// Whether a connection is up.
    pub(crate) fn is_connected(&self) -> bool {
        self.link.borrow().is_some()
    }

    /// Asks the peer, on a lane of its own.
    pub(crate) async fn request(&self, request: Request) -> Result<Reply, PeerUnavailable> {
        let over = self.link.borrow().clone().ok_or(PeerUnavailable)?;
        let asked = tokio::time::timeout(self.deadline, ask(&over.link, request)).await;
        let reply = asked.ok().flatten();
        over.note(reply.as_ref().is_some_and(|reply| !is_unavailable(reply)));
        reply.ok_or(PeerUnavailable)
    }

    /// Keeps the connection up, until the node stops; on each it says `ours` first.
    pub(crate) async fn keep(
        self: Arc<Self>,
        endpoint: Arc<LinkEndpoint>,
        shards: Shards,
        led: Led,
        ours: Hello,
    ) {
        let mut backoff = Backoff::new();
        // The nodes of this provider begin with different nodes of the peer.
        let mut first = usize::try_from(ours.node).unwrap_or(0);
        let span = info_span!("link", peer = %self.provider);
        async {
            loop {
                match self.dial_any(&endpoint, first, &ours).await {
                    Ok((address, link)) => {
                        let up = tokio::time::Instant::now();
                        info!(address = %link.remote_address(), "link up");
                        let credits = Arc::clone(&self.credits);
                        let over = Connection::new(link, credits, self.addresses.len() > 1);
                        let over = Arc::new(over);
                        self.troubles.over();
                        backoff.begin();
                        self.serve(Arc::clone(&over), &shards, &led).await;
                        self.ended(&address, &over.link, up.elapsed());
                    }
                    // Each address has said why.
                    Err(error) => tracing::debug!(%error, "no address of the peer can be reached"),
                }
                // Another node is the first to be tried next.
                first = first.wrapping_add(1);
                tokio::time::sleep(backoff.wait()).await;
            }
        }
        .instrument(span)
        .await;
    }

    /// Takes note of why a connection has ended; one that did not last was none.
    fn ended(&self, address: &str, link: &Link, lasted: Duration) {
        let why = link
            .ended()
            .map_or_else(String::new, |ended| ended.to_string());
        info!(%why, "link down");
        if lasted >= GOOD {
            self.troubles.forget_told();
        } else if link.ended() != Some(Ended::Here) {
            self.troubles.failed(address, &why, now_s());
        }
    }

    /// Connects to whichever node of the peer answers, asked one shortly after the other: one that is gone does not
    /// answer for seconds.
    async fn dial_any(
        &self,
        endpoint: &LinkEndpoint,
        first: usize,
        ours: &Hello,
    ) -> anyhow::Result<(String, Link)> {
        let count = self.addresses.len();
        let in_turn = self.addresses.iter().cycle().skip(first % count.max(1));
        let dials = (0..).zip(in_turn.take(count)).map(|(turn, address)| {
            let dialling = async move {
                tokio::time::sleep(NEXT_ADDRESS_AFTER * turn).await;
                let dialled = dial(endpoint, address, &self.provider, ours).await;
                let failed = |error: &anyhow::Error| {
                    let refused = error.downcast_ref::<ConnectError>();
                    if !refused.is_some_and(ConnectError::is_stopping) {
                        self.troubles
                            .failed(address, &format!("{error:#}"), now_s());
                    }
                };
                let link = dialled.inspect_err(failed);
                link.map(|link| (address.clone(), link))
            };
            Box::pin(dialling)
        });
        let (dialled, _others) = select_ok(dials).await?;
        Ok(dialled)
    }

    /// Uses a connection until it is lost.
    async fn serve(&self, over: Arc<Connection>, shards: &Shards, led: &Led) {
        self.link.send_replace(Some(Arc::clone(&over)));
        let mut lanes = JoinSet::new();
        for kind in [Kind::Fanout, Kind::Submit] {
            // In version 1 each shard has lanes of its own.
            let speaks: Vec<Speaks> = match over.link.agreed() {
                Some(1) => shards.iter().map(|own| Speaks::Alone(own.id)).collect(),
                _ => vec![Speaks::Together(led.clone())],
            };
            for speaks in speaks {
                let lane = keep_lane(shards.clone(), Arc::clone(&over), kind, speaks);
                lanes.spawn(lane.in_current_span());
            }
        }
        over.link.closed().await;
        self.link.send_replace(None);
        lanes.shutdown().await;
        self.credits.clear_all();
    }
}

/// Keeps a lane going: one that fails is opened anew, each shard from its last acknowledgement.
async fn keep_lane(shards: Shards, over: Arc<Connection>, kind: Kind, speaks: Speaks) {
    let mut backoff = Backoff::new();
    while !over.link.is_closed() {
        let alone = speaks.alone().and_then(|shard| shards.get(shard));
        let mut lead = alone.map(|shard| shard.lead.subscribe());
        if let Some(lead) = &mut lead
            && !led_here(lead).await
        {
            return;
        }
        backoff.begin();
        let sending = async {
            match kind {
                Kind::Fanout => fanout::send(&over, &shards, speaks.clone()).await,
                Kind::Submit => submit::send(&over, &shards, speaks.clone()).await,
            }
        };
        let left = async {
            match &mut lead {
                Some(lead) => lost(lead).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = sending => Some(ended),
            () = left => None,
        };
        if matches!(kind, Kind::Fanout) {
            match alone {
                Some(shard) => over.credits.clear(shard.id),
                None => over.credits.clear_all(),
            }
        }
        let Some(Err(error)) = ended else { continue };
        if over.link.is_closed() {
            return;
        }
        let shard = speaks.alone();
        warn!(shard, %error, "a lane failed and will be opened again");
        let wait = match error.downcast_ref() {
            Some(Later(wait)) => *wait,
            None => Duration::ZERO,
        };
        over.note(backoff.is_good() || !wait.is_zero());
        tokio::time::sleep(wait.max(backoff.wait())).await;
    }
}

/// Whether the node that answered could not do anything.
fn is_unavailable(reply: &Reply) -> bool {
    matches!(
        reply,
        Reply::Room(Answer::Refused(Refused::TryLater(TryLater {
            why: Why::Unavailable,
            ..
        })))
    )
}

/// The two long lanes to a peer.
#[derive(Clone, Copy)]
enum Kind {
    Fanout,
    Submit,
}

/// Connects to a peer and greets it.
async fn dial(
    endpoint: &LinkEndpoint,
    address: &str,
    provider: &ProviderId,
    ours: &Hello,
) -> anyhow::Result<Link> {
    let mut last = anyhow::anyhow!("the name {address} has no address");
    let resolved = tokio::net::lookup_host(address).await;
    for resolved in resolved.with_context(|| format!("look {address} up"))? {
        match endpoint.connect(resolved, provider).await {
            Ok(link) => {
                let greeted = greet(&link, ours).await;
                // A peer that does not take this node's certificate says so when it has seen it.
                if let Err(error) = greeted {
                    let ended = link.ended();
                    link.close(code::VERSION, "no greeting");
                    return Err(ended.map_or(error, anyhow::Error::from));
                }
                return Ok(link);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

async fn greet(link: &Link, ours: &Hello) -> anyhow::Result<()> {
    let (mut to, mut from) = link.open_lane().await?;
    // Every version reads the oldest greeting, which says what else there is.
    to.speak(LINK.oldest);
    to.write(&Open::Control(ours.clone())).await?;
    to.finish()?;
    let greeting = from.next(GREETING_FRAME_BYTES_MAX, Some(GREETING_DEADLINE));
    let greeting = tokio::time::timeout(GREETING_DEADLINE, greeting).await??;
    let theirs: Hello = wire::decode(&greeting.unwrap_or_default())?;
    let Some(common) = ours.common(&theirs) else {
        anyhow::bail!("the peer speaks versions {:?} only", theirs.versions);
    };
    link.agree(common);
    Ok(())
}

async fn ask(link: &Link, request: Request) -> Option<Reply> {
    let (mut to, mut from) = link.open_lane().await.ok()?;
    let open = Open::Request(Box::new(request));
    to.write(&open).await.ok()?;
    to.finish().ok()?;
    let reply = from.next(REQUEST_FRAME_BYTES_MAX, None).await.ok()??;
    wire::decode(&reply).ok()
}
