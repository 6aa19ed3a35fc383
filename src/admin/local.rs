//! The local socket: the operator's requests to a running node, from the same machine and the same account.

use super::protocol::{DeviceRow, PeerRow, Request, Response, ShardRow, Status, UserRow};
use crate::node::Node;
use anyhow::{Context, bail};
use mimi_actors::{
    ids::{ClientUri, UserUri},
    limits::{ENROLMENT_CODE_BYTES, ENROLMENT_CODE_LIFE_MS},
    link::Peer,
    user::{
        command::{Add, Command, Consent, Revoke},
        fold::State,
        outcome::{Answer, Refused},
    },
    wire::event::Hash,
};
use rand::RngCore;
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

/// Longest request line, in bytes.
const REQUEST_LINE_BYTES_MAX: u64 = 16 << 10;
/// How long one exchange may take.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(90);

/// Opens the socket, for its owner alone.
///
/// # Errors
/// When another node listens there, or the directory is not writable.
pub(crate) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "another node listens on {}; stop it or set node.admin_socket",
            path.display()
        );
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).context(format!("remove the old {}", path.display())),
    }
    // The socket must never be open to others, not even for a moment: it is born in a directory of its own.
    let staging = path.with_extension("new");
    drop(std::fs::remove_file(&staging));
    let listener =
        UnixListener::bind(&staging).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(&staging, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&staging, path))
        .with_context(|| format!("listen on {}", path.display()))?;
    Ok(listener)
}

/// Serves the socket until the node stops.
pub(crate) async fn serve(listener: UnixListener, node: Arc<Node>) {
    while let Ok((stream, _)) = listener.accept().await {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            match tokio::time::timeout(EXCHANGE_DEADLINE, exchange(stream, &node)).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%error, "an exchange on the local socket failed"),
            }
        });
    }
}

async fn exchange(stream: UnixStream, node: &Node) -> anyhow::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut line = String::new();
    BufReader::new(from.take(REQUEST_LINE_BYTES_MAX))
        .read_line(&mut line)
        .await?;
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(request) => answer(node, request).await,
        Err(error) => refused(&format!("the request does not read: {error}")),
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    Ok(to.write_all(&line).await?)
}

/// Asks the node that listens at `path`.
///
/// # Errors
/// When no node listens there, or it does not answer in time.
pub async fn ask(path: &Path, request: &Request) -> anyhow::Result<Response> {
    let connect = UnixStream::connect(path).await;
    let stream = connect.with_context(|| {
        format!(
            "no node listens on {}: is it running, and is this its config?",
            path.display()
        )
    })?;
    let (from, mut to) = stream.into_split();
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    let mut answer = String::new();
    let mut reader = BufReader::new(from);
    let read = tokio::time::timeout(EXCHANGE_DEADLINE, reader.read_line(&mut answer));
    read.await.context("the node did not answer in time")??;
    serde_json::from_str(&answer).context("the node's answer does not read")
}

fn refused(why: &str) -> Response {
    Response::Refused {
        why: why.to_owned(),
    }
}

async fn answer(node: &Node, request: Request) -> Response {
    let provider = &node.shards.world().provider;
    let local = |user: &str| {
        UserUri::new(provider, user).map_err(|error| anyhow::anyhow!("{user}: {error}"))
    };
    let done = match request {
        Request::AddUser { user } => match local(&user) {
            Ok(user) => add_user(node, user).await,
            Err(error) => Err(error),
        },
        Request::DeleteUser { user } => match local(&user) {
            Ok(user) => change(node, &user, Command::Delete).await,
            Err(error) => Err(error),
        },
        Request::Consent {
            user,
            requester,
            room,
            grant,
        } => match local(&user) {
            Ok(user) => {
                let consent = Consent {
                    requester,
                    room,
                    grant,
                };
                change(node, &user, Command::Consent(consent)).await
            }
            Err(error) => Err(error),
        },
        Request::RevokeDevice { client } => revoke(node, client).await,
        Request::ListUsers => list_users(node).await,
        Request::Status => Ok(Response::Status(status(node).await)),
        Request::Parked { provider } => Ok(super::parked::list(node, provider.as_ref())),
        Request::Redrive { provider, room } => {
            let asked = node.shards.redrive(&room, &provider).await;
            asked.map(|()| Response::Done).map_err(anyhow::Error::from)
        }
        Request::Cluster => super::cluster::status(node),
        Request::LookChange { shard, wish } => super::cluster::look(node, shard, wish).await,
        Request::BeginChange { id, wish } => super::cluster::begin(node, id, wish).await,
        Request::CarryChange { shard, wish } => super::cluster::carry(node, shard, wish).await,
        Request::EndChange { id } => super::cluster::end(node, id).await,
        Request::CheckCluster => super::cluster::check(node).await,
    };
    done.unwrap_or_else(|error| refused(&format!("{error:#}")))
}

/// Changes one user.
async fn change(node: &Node, user: &UserUri, command: Command) -> anyhow::Result<Response> {
    match node.shards.ask_user(user, command).await? {
        Answer::Refused(Refused::Unknown) => bail!("{user} does not exist; see `user list`"),
        Answer::Refused(refused) => bail!("{user}: {refused}"),
        Answer::Done
        | Answer::Enrolled
        | Answer::Uploaded(_)
        | Answer::Claimed(_)
        | Answer::IntroductionKept(_)
        | Answer::Introduced(_) => Ok(Response::Done),
    }
}

async fn add_user(node: &Node, user: UserUri) -> anyhow::Result<Response> {
    let mut bytes = [0; ENROLMENT_CODE_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    let enrolment_code: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let add = Add {
        user: user.clone(),
        code: Hash::of(enrolment_code.as_bytes()),
    };
    change(node, &user, Command::Add(add)).await?;
    Ok(Response::UserAdded {
        user,
        enrolment_code,
        valid_s: ENROLMENT_CODE_LIFE_MS / 1_000,
    })
}

async fn revoke(node: &Node, client: ClientUri) -> anyhow::Result<Response> {
    if client.provider() != &node.shards.world().provider {
        bail!("{client} is not a device of this provider");
    }
    let user = client.user().clone();
    change(node, &user, Command::Revoke(Revoke { client })).await
}

async fn list_users(node: &Node) -> anyhow::Result<Response> {
    let mut users = Vec::new();
    for shard in node.shards.iter() {
        let known: Vec<UserUri> = shard.users.lock().await.keys();
        for user in known {
            let actor = shard.user(&user).await?;
            let name = user.clone();
            let row = actor.look(move |fold| {
                let device = |client: &ClientUri| DeviceRow {
                    client: client.clone(),
                    key_packages: fold.stock(client),
                    rooms: fold.memberships(client).count(),
                };
                let (deleted, devices) = match fold.state() {
                    State::Absent => return None,
                    State::Active => (false, fold.clients().map(device).collect()),
                    State::Deleted => (true, Vec::new()),
                };
                Some(UserRow {
                    user: name,
                    deleted,
                    devices,
                    consents: fold.consents().count(),
                })
            });
            users.extend(row.await?);
        }
    }
    users.sort_by(|a, b| a.user.cmp(&b.user));
    Ok(Response::Users { users })
}

async fn status(node: &Node) -> Status {
    let (actors_awake, actors_asleep) = node.shards.counts().await;
    let hashes = node.shards.state_hashes().await;
    let shards = (0_u16..).zip(hashes);
    let log = node.log_figures();
    let peers = node.peers.iter().map(|(provider, peer)| {
        let owed = node.shards.iter().map(|shard| {
            let derived = shard.looked_at();
            let link = derived.links.outgoing(&Peer::Provider(provider.clone()));
            link.map_or(0, |link| link.last().0 - link.acked().0)
        });
        PeerRow {
            provider: provider.to_string(),
            connected: peer.is_connected(),
            unacknowledged: owed.sum(),
            frames_sent: peer.credits().sent().0,
            items_sent: peer.credits().sent().1,
        }
    });
    Status {
        provider: node.shards.world().provider.to_string(),
        node: node.id,
        pid: std::process::id(),
        log_bytes: log.bytes,
        log_bytes_max: log.bytes_max,
        log_syncs: log.syncs,
        log_entries: log.entries,
        actors_awake,
        actors_asleep,
        peers: peers.collect(),
        shards: shards
            .map(|(shard, (applied, hash))| ShardRow {
                shard,
                applied,
                state_hash: hash.to_string(),
            })
            .collect(),
    }
}

/// Where the socket of a data directory is, unless the config says otherwise.
#[must_use]
pub fn default_path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
}
