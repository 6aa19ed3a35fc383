//! A follower that does what a test tells it: a QUIC server with a provider's certificate, and no node behind it.

use super::raw;
use mimi_actors::{
    ids::{ProviderId, RoomUri, UserUri},
    link::session::FanoutReceiver,
    wire::{
        self, BText, BVec, Payload, Versioned,
        claim::{ClaimResponse, ClaimedClient, ClaimedUser, ClientRefused},
        event::{Item, LinkSeq},
        link::{Ack, Fanout, Hello, OfShard, Open, Reply, Request, RoomRefused},
        version::LINK,
    },
};
use mimi_client::member::Member;
use mimi_quic::LINK_ALPN;
use quinn::{Connection, Endpoint, RecvStream, SendStream, crypto::rustls::QuicServerConfig};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How a follower breaks a fan-out lane when a batch comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It resets the lane.
    Resets,
    /// It sends bytes that are no acknowledgement.
    Garbage,
    /// It acknowledges what was never sent.
    AcksAhead,
    /// It goes back behind what it acknowledged.
    AcksBack,
}

/// How the follower behaves, and what it has seen.
#[derive(Default)]
pub struct Script {
    /// The newest version of the link that it knows.
    pub newest: u8,
    /// Rooms whose events it refuses.
    pub refuses: BTreeSet<RoomUri>,
    /// Payload bytes that it allows in each acknowledgement.
    pub credit_bytes: u32,
    /// It acknowledges nothing while this is so.
    pub holds: bool,
    /// It takes no batch, and says when to come again.
    pub retry_after_ms: Option<u32>,
    /// How often it did.
    pub asked_for_time: usize,
    /// It breaks every lane on which a batch comes.
    pub breaks: Option<Break>,
    /// How many lanes it broke.
    pub broken: usize,
    /// KeyPackages of its clients, handed out in turn.
    pub packages: BTreeMap<UserUri, Vec<ClaimedClient>>,
    /// Numbers of the events that it took, by room.
    pub taken: BTreeMap<RoomUri, Vec<u64>>,
    /// Rooms of which something came while it was refused.
    pub refused: BTreeMap<RoomUri, usize>,
    /// Users of each claim that it was asked for.
    pub claims: Vec<Vec<UserUri>>,
    /// Everything that it took, in the order in which it came.
    pub items: Vec<(RoomUri, Item)>,
    /// Shards that were heard on each fan-out lane that was opened, and whether it is open.
    pub lanes: Vec<(BTreeSet<u16>, bool)>,
    /// When sessions of shards began.
    pub begun: Vec<Instant>,
    /// Batches that came and were not acknowledged.
    pub under_way: usize,
}

/// The follower, until it is dropped.
pub struct Follower {
    script: Arc<Mutex<Script>>,
    released: Arc<Notify>,
    endpoint: Endpoint,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.endpoint.close(0_u32.into(), b"the test is over");
    }
}

impl Follower {
    /// Listens at `address` as the provider whose certificate and key are in `dir`.
    pub fn start(dir: &Path, provider: &str, address: SocketAddr) -> Self {
        let endpoint = Endpoint::server(config(dir, provider), address).unwrap();
        let script = Arc::new(Mutex::new(Script {
            newest: LINK.newest,
            credit_bytes: 1 << 20,
            ..Script::default()
        }));
        let follower = Self {
            script: Arc::clone(&script),
            released: Arc::default(),
            endpoint: endpoint.clone(),
        };
        let released = Arc::clone(&follower.released);
        let own = provider.to_owned();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                if let Ok(connection) = incoming.await {
                    let (own, script) = (own.clone(), Arc::clone(&script));
                    tokio::spawn(serve(connection, own, script, Arc::clone(&released)));
                }
            }
        });
        follower
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Goes on to acknowledge.
    pub fn release(&self) {
        self.script().holds = false;
        self.released.notify_waiters();
    }

    /// Lets a member's KeyPackages be claimed.
    pub fn stock(&self, member: &mut Member, count: usize) {
        let packages = member.key_packages(count, &Default::default()).unwrap();
        let client = member.client().clone();
        let claimed = packages.into_iter().map(|package| ClaimedClient {
            client: client.clone(),
            result: Ok(Payload(package)),
        });
        let user = client.user().clone();
        self.script()
            .packages
            .entry(user)
            .or_default()
            .extend(claimed);
    }

    /// The numbers of the events that it took of a room, in the order in which they came.
    pub fn taken(&self, room: &RoomUri) -> Vec<u64> {
        self.script().taken.get(room).cloned().unwrap_or_default()
    }
}

fn config(dir: &Path, provider: &str) -> quinn::ServerConfig {
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let file = |end: &str| dir.join(format!("{provider}.{end}"));
    let pem = |path| CertificateDer::pem_file_iter(path).unwrap();
    let mut roots = RootCertStore::empty();
    for certificate in pem(dir.join("ca.crt")) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&crypto));
    let chain = pem(file("crt")).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(crypto)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![LINK_ALPN.to_vec()];
    let config = QuicServerConfig::try_from(config).unwrap();
    quinn::ServerConfig::with_crypto(Arc::new(config))
}

async fn serve(
    connection: Connection,
    own: String,
    script: Arc<Mutex<Script>>,
    released: Arc<Notify>,
) {
    while let Ok((to, from)) = connection.accept_bi().await {
        let (own, script, released) = (own.clone(), Arc::clone(&script), Arc::clone(&released));
        tokio::spawn(async move {
            // A lane that ends early has nobody who waits for it.
            let _ = lane(to, from, &own, &script, &released).await;
        });
    }
}

async fn read(from: &mut RecvStream) -> Option<bytes::Bytes> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await.ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    from.read_exact(&mut frame).await.ok()?;
    Some(frame.into())
}

/// A value as a peer says it in a version.
fn said<T: Versioned>(version: u8, value: &T) -> Vec<u8> {
    raw::frame(&wire::encode_in(version, value, 256).unwrap())
}

async fn lane(
    mut to: SendStream,
    mut from: RecvStream,
    own: &str,
    script: &Mutex<Script>,
    released: &Notify,
) -> Option<()> {
    let frame = read(&mut from).await?;
    let version = LINK.spoken(&frame);
    let open: Open = wire::decode(&frame).ok()?;
    match open {
        Open::Control(_) => {
            let newest = script.lock().unwrap().newest;
            let hello = Hello {
                versions: BVec::first_max((1..=u16::from(newest)).rev()),
                node: 1,
                features: BVec::default(),
            };
            to.write_all(&said(1, &hello)).await.ok()?;
        }
        Open::Request(request) => {
            let Request::Claim(claim) = *request else {
                return None;
            };
            let asked = claim.users.iter().cloned().collect();
            script.lock().unwrap().claims.push(asked);
            let users = claim.users.iter().map(|user| claimed(script, user));
            let users = BVec::try_from(users.collect::<Vec<_>>()).unwrap();
            let reply = Reply::Claimed(ClaimResponse { users });
            to.write_all(&said(version, &reply)).await.ok()?;
        }
        Open::Fanout | Open::OneShard { .. } => {
            let alone = match open {
                Open::OneShard { shard } => Some(shard),
                _ => None,
            };
            let number = {
                let mut script = script.lock().unwrap();
                script.lanes.push((alone.into_iter().collect(), true));
                script.lanes.len() - 1
            };
            let mut lane = FanoutLane {
                own: own.parse().unwrap(),
                number,
                alone,
                shards: BTreeMap::new(),
            };
            let ended = lane.serve(&mut to, &mut from, script, released).await;
            script.lock().unwrap().lanes[number].1 = false;
            ended?;
        }
        Open::Submit | Open::OneShardSubmits => {}
    }
    to.finish().ok()
}

fn claimed(script: &Mutex<Script>, user: &UserUri) -> ClaimedUser {
    let mut script = script.lock().unwrap();
    let next = script.packages.get_mut(user).and_then(Vec::pop);
    let client = next.unwrap_or_else(|| ClaimedClient {
        client: format!("{user}/none").parse().unwrap(),
        result: Err::<Payload, _>(ClientRefused::Exhausted),
    });
    ClaimedUser {
        user: user.clone(),
        result: Ok(BVec::from([client])),
    }
}

/// A fan-out lane.
struct FanoutLane {
    own: ProviderId,
    /// Its place among all that were opened.
    number: usize,
    /// The only shard, in version 1.
    alone: Option<u16>,
    shards: BTreeMap<u16, Heard>,
}

/// What was heard of a shard.
struct Heard {
    session: u64,
    receiver: FanoutReceiver,
    acked: LinkSeq,
    /// It was told to come again.
    over: bool,
}

impl FanoutLane {
    /// A batch, and of which shard.
    fn read(&self, frame: &bytes::Bytes) -> OfShard<Fanout> {
        match self.alone {
            None => wire::decode(frame).unwrap(),
            Some(shard) => OfShard {
                shard,
                session: 1,
                said: wire::decode(frame).unwrap(),
            },
        }
    }

    /// An acknowledgement, as it is written.
    fn said(&self, batch: &OfShard<Fanout>, ack: Ack) -> Vec<u8> {
        match self.alone {
            Some(_) => said(1, &ack),
            None => said(
                LINK.newest,
                &OfShard {
                    shard: batch.shard,
                    session: batch.session,
                    said: ack,
                },
            ),
        }
    }

    async fn serve(
        &mut self,
        to: &mut SendStream,
        from: &mut RecvStream,
        script: &Mutex<Script>,
        released: &Notify,
    ) -> Option<()> {
        let mut waiting = Vec::new();
        loop {
            let wake = released.notified();
            tokio::select! {
                batch = read(from) => {
                    let batch = self.read(&batch?);
                    let breaks = script.lock().unwrap().breaks;
                    if let Some(how) = breaks {
                        self.breaks(how, &batch, to, from).await?;
                        script.lock().unwrap().broken += 1;
                        return Some(());
                    }
                    if let Some(upto) = self.hear(script, &batch) {
                        waiting.push((upto, batch));
                    }
                }
                () = wake => {}
                // A release between two looks is seen here.
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            if script.lock().unwrap().holds {
                continue;
            }
            for (upto, batch) in std::mem::take(&mut waiting) {
                let heard = self.shards.get_mut(&batch.shard)?;
                if heard.over || heard.session != batch.session {
                    script.lock().unwrap().under_way -= 1;
                    continue;
                }
                let ack = take(&mut script.lock().unwrap(), upto, heard.acked, &batch.said);
                (heard.acked, heard.over) = (ack.upto, ack.retry_after_ms.is_some());
                let ends = heard.over && self.alone.is_some();
                to.write_all(&self.said(&batch, ack)).await.ok()?;
                if ends {
                    return Some(());
                }
            }
        }
    }

    /// Takes note of a batch; gives its last item, unless its session is over.
    fn hear(&mut self, script: &Mutex<Script>, batch: &OfShard<Fanout>) -> Option<LinkSeq> {
        let mut script = script.lock().unwrap();
        script.lanes[self.number].0.insert(batch.shard);
        let heard = self.shards.entry(batch.shard).or_insert(Heard {
            session: 0,
            receiver: FanoutReceiver::default(),
            acked: LinkSeq(0),
            over: false,
        });
        assert!(batch.session >= heard.session, "an honest hub");
        if batch.session > heard.session {
            *heard = Heard {
                session: batch.session,
                receiver: FanoutReceiver::default(),
                acked: LinkSeq(batch.said.first.0 - 1),
                over: false,
            };
            script.begun.push(Instant::now());
        }
        if heard.over {
            return None;
        }
        let hub = batch.said.groups[0].room.hub();
        let upto = heard.receiver.take(hub, &self.own, &batch.said);
        script.under_way += 1;
        Some(upto.expect("an honest hub"))
    }

    async fn breaks(
        &self,
        how: Break,
        batch: &OfShard<Fanout>,
        to: &mut SendStream,
        from: &mut RecvStream,
    ) -> Option<()> {
        let ack = |upto| {
            let ack = Ack {
                upto: LinkSeq(upto),
                refused: BVec::default(),
                credit_bytes: 1 << 20,
                retry_after_ms: None,
            };
            self.said(batch, ack)
        };
        let first = batch.said.first.0;
        let answer = match how {
            Break::Resets => {
                from.stop(1_u32.into()).ok()?;
                return to.reset(1_u32.into()).ok();
            }
            Break::Garbage => raw::frame(&[0xff; 64]),
            Break::AcksAhead => ack(first + 1_000),
            Break::AcksBack => ack(first.saturating_sub(2)),
        };
        to.write_all(&answer).await.ok()?;
        // The hub ends a lane that is broken, or the follower does.
        let ended = tokio::time::timeout(Duration::from_secs(1), read(from)).await;
        drop(ended);
        Some(())
    }
}

fn take(script: &mut Script, upto: LinkSeq, acked: LinkSeq, batch: &Fanout) -> Ack {
    script.under_way -= 1;
    let (credit_bytes, retry_after_ms) = (script.credit_bytes, script.retry_after_ms);
    if retry_after_ms.is_some() {
        script.asked_for_time += 1;
        return Ack {
            upto: acked,
            refused: BVec::default(),
            credit_bytes,
            retry_after_ms,
        };
    }
    let mut refused = Vec::new();
    for group in &batch.groups {
        if script.refuses.contains(&group.room) {
            *script.refused.entry(group.room.clone()).or_default() += group.items.len();
            refused.push(RoomRefused {
                room: group.room.clone(),
                detail: BText::clipped("frozen for the test"),
            });
            continue;
        }
        let numbers = group.items.iter().filter_map(|item| match item {
            Item::Event(event) => Some(event.seq.0),
            Item::Refused { .. }
            | Item::Refilled { .. }
            | Item::Departed { .. }
            | Item::Consent(_) => None,
        });
        let taken = script.taken.entry(group.room.clone()).or_default();
        taken.extend(numbers);
        let items = group.items.iter().cloned();
        script
            .items
            .extend(items.map(|item| (group.room.clone(), item)));
    }
    Ack {
        upto,
        refused: BVec::try_from(refused).unwrap(),
        credit_bytes,
        retry_after_ms: None,
    }
}
